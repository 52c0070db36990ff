use std::collections::BTreeMap;
use std::fmt;

use bridge_vars::{Leaf, Path, RngState, TensorForm, Value};
use serde::{Serialize, Serializer};

/// A table of a model's modules: what each takes and gives, and its variables by collection. What both paradigms' `tabulate`
/// gives.
///
/// Printed with `{}`, it fits the terminal (100 characters where there is none), or the width that is asked for: `{:120}`. A row counts what is its
/// module's own; what several modules share counts once, where it comes first. Random streams are left out.
#[doc(alias("nn.tabulate", "nnx.tabulate"))]
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    rows: Vec<SummaryRow>,
    /// All that the rows count, by collection.
    totals: BTreeMap<String, Count>,
}

/// One module of a [`Summary`].
#[derive(Clone, Debug, Serialize)]
pub struct SummaryRow {
    /// Where it is.
    #[serde(serialize_with = "as_text")]
    pub path: Path,
    /// Its type.
    pub module: String,
    /// Dtypes and shapes of what its first call took; nothing, if no call was seen.
    pub inputs: Option<String>,
    /// Dtypes and shapes of what its first call gave.
    pub outputs: Option<String>,
    /// How often it was called.
    pub calls: usize,
    /// Its variables.
    pub variables: Vec<SummaryVariable>,
    /// What its variables come to, by collection.
    pub counts: BTreeMap<String, Count>,
}

/// One variable of a [`Summary`].
#[derive(Clone, Debug, Serialize)]
pub struct SummaryVariable {
    /// Where it is below its module.
    #[serde(serialize_with = "as_text")]
    pub path: Path,
    /// Its collection.
    pub collection: String,
    /// Dtype and shape, or what else it is; and how it is spread over a mesh.
    pub form: String,
}

/// Elements and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Count {
    /// The number of elements.
    pub elements: usize,
    /// The number of bytes.
    pub bytes: usize,
}

impl Count {
    fn add(&mut self, other: Self) {
        self.elements = self.elements.saturating_add(other.elements);
        self.bytes = self.bytes.saturating_add(other.bytes);
    }

    fn of(value: &Value) -> Self {
        match value.tensor_form() {
            Some(form) => Self::of_form(form),
            None => match value {
                Value::Count(_) => Self { elements: 1, bytes: 4 },
                Value::Counts(counts) => {
                    Self { elements: counts.elements().len(), bytes: 4 * counts.elements().len() }
                }
                _ => Self::default(),
            },
        }
    }

    fn of_form(form: &TensorForm) -> Self {
        let elements = form.element_count();
        Self { elements, bytes: elements.saturating_mul(form.dtype().size_in_bytes()) }
    }
}

impl fmt::Display for Count {
    /// `1,234 (4.9 kB)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", bridge_vars::grouped(self.elements), bridge_vars::byte_size(self.bytes))
    }
}

fn as_text<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(path)
}

impl Summary {
    /// A table of these rows, in their order, with each variable in the row of the innermost module that it is below.
    ///
    /// Variables below no module are in a row of their own, the first.
    pub fn new(mut rows: Vec<SummaryRow>, leaves: impl IntoIterator<Item = (Path, Leaf)>) -> Self {
        let mut totals: BTreeMap<String, Count> = BTreeMap::new();
        for (path, leaf) in leaves {
            if leaf.kind.is(RngState::variable_type()) || matches!(leaf.value, Value::Opaque(_)) {
                continue;
            }
            let place = innermost(&rows, &path).unwrap_or_else(|| {
                rows.insert(0, SummaryRow::new(Path::root(), ""));
                0
            });
            let collection = leaf.kind.collection().to_owned();
            let count = Count::of(&leaf.value);
            totals.entry(collection.clone()).or_default().add(count);
            if let Some(row) = rows.get_mut(place) {
                row.counts.entry(collection.clone()).or_default().add(count);
                let below = path.keys().iter().skip(row.path.len()).cloned().collect();
                let mut form = match leaf.value.tensor_form() {
                    Some(form) => form.to_string(),
                    None => leaf.value.kind().to_owned(),
                };
                if let Ok(spec) = leaf.partition_spec()
                    && !spec.0.is_empty()
                {
                    form.push_str(&format!(" {spec}"));
                }
                row.variables.push(SummaryVariable { path: below, collection, form });
            }
        }
        Self { rows, totals }
    }

    /// The rows: a module before those below it.
    pub fn rows(&self) -> &[SummaryRow] {
        &self.rows
    }

    /// The row of the module at a path.
    pub fn row(&self, path: impl Into<Path>) -> Option<&SummaryRow> {
        let path = path.into();
        self.rows.iter().find(|row| row.path == path)
    }

    /// What all variables come to, by collection.
    pub fn totals(&self) -> &BTreeMap<String, Count> {
        &self.totals
    }

    /// What all variables come to.
    pub fn total(&self) -> Count {
        let mut total = Count::default();
        self.totals.values().for_each(|count| total.add(*count));
        total
    }

    /// The same without modules that are deeper than this many steps: what they count is counted by the module above.
    #[must_use]
    pub fn depth(&self, depth: usize) -> Self {
        let mut rows: Vec<SummaryRow> = Vec::new();
        for row in &self.rows {
            if row.path.len() <= depth {
                rows.push(row.clone());
                continue;
            }
            let Some(above) = innermost(&rows, &row.path).and_then(|above| rows.get_mut(above)) else {
                rows.push(row.clone());
                continue;
            };
            for (collection, count) in &row.counts {
                above.counts.entry(collection.clone()).or_default().add(*count);
            }
            let skipped = above.path.len();
            above.variables.extend(row.variables.iter().map(|variable| SummaryVariable {
                path: row.path.concat(&variable.path).keys().iter().skip(skipped).cloned().collect(),
                ..variable.clone()
            }));
        }
        Self { rows, totals: self.totals.clone() }
    }

    /// The table as Markdown.
    pub fn to_markdown(&self) -> String {
        let mut text = String::new();
        for (number, line) in self.cells().iter().enumerate() {
            let cells: Vec<String> = line.iter().map(|cell| cell.replace('|', "\\|")).collect();
            text.push_str(&format!("| {} |\n", cells.join(" | ")));
            if number == 0 {
                text.push_str(&format!("|{}\n", " --- |".repeat(line.len())));
            }
        }
        text.push_str(&format!("\nTotal: {}\n", self.total()));
        text
    }

    /// The table as JSON: rows with paths, types, inputs, outputs and variables, and totals.
    ///
    /// # Errors
    /// None but of serde's own.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string_pretty(self)
    }

    /// Heads, rows and totals.
    fn cells(&self) -> Vec<Vec<String>> {
        let collections: Vec<&String> = self.totals.keys().collect();
        let heads = ["path", "module", "inputs", "outputs"].map(String::from);
        let mut lines = vec![heads.into_iter().chain(collections.iter().map(ToString::to_string)).collect()];
        let count = |counts: &BTreeMap<String, Count>, collection: &String| {
            counts.get(collection).map(ToString::to_string).unwrap_or_default()
        };
        for row in &self.rows {
            let path = if row.path.is_empty() { "(root)".to_owned() } else { row.path.to_string() };
            let mut cells = vec![
                path,
                match row.calls {
                    0 | 1 => row.module.clone(),
                    calls => format!("{} x{calls}", row.module),
                },
                row.inputs.clone().unwrap_or_default(),
                row.outputs.clone().unwrap_or_default(),
            ];
            cells.extend(collections.iter().map(|collection| count(&row.counts, collection)));
            lines.push(cells);
        }
        let mut last = vec!["total".to_owned(), String::new(), String::new(), String::new()];
        last.extend(collections.iter().map(|collection| count(&self.totals, collection)));
        lines.push(last);
        lines
    }
}

impl SummaryRow {
    /// Of a module that no call was seen of.
    pub fn new(path: Path, module: impl Into<String>) -> Self {
        let (variables, counts) = (Vec::new(), BTreeMap::new());
        Self { path, module: module.into(), inputs: None, outputs: None, calls: 0, variables, counts }
    }

    /// Notes a call: the first one's shapes stay.
    pub fn call(&mut self, inputs: String, outputs: String) {
        self.calls += 1;
        self.inputs.get_or_insert(inputs);
        self.outputs.get_or_insert(outputs);
    }
}

/// The deepest row that a path is below; the first of several for one module.
fn innermost(rows: &[SummaryRow], path: &Path) -> Option<usize> {
    let above = rows.iter().enumerate().filter(|(_, row)| path.starts_with(&row.path));
    above.rev().max_by_key(|(_, row)| row.path.len()).map(|(place, _)| place)
}

/// How many columns hold words.
const WORDS: usize = 4;

/// As wide as a column is at least.
const NARROW: usize = 8;

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = self.cells();
        let columns = lines.first().map_or(0, Vec::len);
        let length = |cell: &String| cell.chars().count();
        let mut widths: Vec<usize> = (0..columns)
            .map(|column| lines.iter().filter_map(|line| line.get(column)).map(length).max().unwrap_or(0))
            .collect();
        // The widest column of words gives way until all fit; numbers stay whole.
        let width = f.width().or_else(terminal_width).unwrap_or(100);
        let room = width.saturating_sub(2 * columns.saturating_sub(1));
        while widths.iter().sum::<usize>() > room {
            match widths.iter_mut().take(WORDS).max() {
                Some(widest) if *widest > NARROW => *widest -= 1,
                _ => break,
            }
        }
        let rule = "-".repeat(widths.iter().sum::<usize>() + 2 * columns.saturating_sub(1));
        for (number, line) in lines.iter().enumerate() {
            if number == 1 || number + 1 == lines.len() {
                writeln!(f, "{rule}")?;
            }
            let mut text = String::new();
            for (cell, width) in line.iter().zip(&widths) {
                text.push_str(&format!("{:<width$}  ", cut(cell, *width)));
            }
            writeln!(f, "{}", text.trim_end())?;
        }
        write!(f, "Total: {}", self.total())
    }
}

fn terminal_width() -> Option<usize> {
    terminal_size::terminal_size().map(|(width, _)| usize::from(width.0))
}

/// A text in no more than so many characters; of a longer one the beginning.
fn cut(text: &str, width: usize) -> String {
    match text.chars().count() > width {
        true => text.chars().take(width.saturating_sub(2)).chain("..".chars()).collect(),
        false => text.to_owned(),
    }
}
