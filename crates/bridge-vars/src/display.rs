//! How snapshots print: a tree with types, shapes and sizes, long lists cut short.

use std::fmt;

use crate::{Leaf, PathKey, State, Tree, Value, Variables};

/// Of more children than this, only the first and the last are shown.
const LONG: usize = 12;
const FIRST: usize = 4;
const LAST: usize = 2;

impl fmt::Display for State {
    /// A line a leaf: path, type, dtype and shape, size; then the sums. Of a long list the first and the last items are
    /// shown, and what is in between is counted; with `{:#}`, everything is shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        print(self.tree(), f)
    }
}
impl fmt::Display for Variables {
    /// As a [`State`] prints, the collections first.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        print(self.tree(), f)
    }
}

fn print(tree: &Tree<Leaf>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut lines = Vec::new();
    collect(tree, String::new(), 0, f.alternate(), &mut lines);
    let widths: [usize; 3] = std::array::from_fn(|column| {
        let cells = lines.iter().filter_map(|line| line.cells.as_ref());
        let cells = cells.map(|cells| match column {
            0 => 0,
            _ => cells[column - 1].chars().count(),
        });
        match column {
            0 => lines.iter().filter(|line| line.cells.is_some()).map(Line::width).max().unwrap_or(0),
            _ => cells.max().unwrap_or(0),
        }
    });
    for line in &lines {
        let indent = line.depth * 2;
        write!(f, "{:indent$}{}", "", line.key)?;
        if let Some([kind, form, size]) = &line.cells {
            let rest = widths[0] - line.width();
            write!(f, "{:rest$}  {kind:<w1$}  {form:<w2$}  {size}", "", w1 = widths[1], w2 = widths[2])?;
        }
        f.write_str("\n")?;
    }
    let sum = Sum::of(tree);
    write!(f, "{sum}")
}

struct Line {
    depth: usize,
    key: String,
    cells: Option<[String; 3]>,
}

impl Line {
    fn width(&self) -> usize {
        self.depth * 2 + self.key.chars().count()
    }
}

fn collect(tree: &Tree<Leaf>, key: String, depth: usize, whole: bool, lines: &mut Vec<Line>) {
    match tree {
        Tree::Leaf(leaf) => {
            let key = if key.is_empty() { "(root)".into() } else { key };
            let cells = Some([leaf.kind.to_string(), form(&leaf.value), byte_size(bytes(&leaf.value))]);
            lines.push(Line { depth, key, cells });
        }
        Tree::Node(node) => {
            let below = match key.is_empty() && depth == 0 {
                true => 0,
                false => {
                    lines.push(Line { depth, key, cells: None });
                    depth + 1
                }
            };
            let children = node.children();
            let cut = !whole && children.len() > LONG;
            for (position, (key, child)) in children.iter().enumerate() {
                if cut && (FIRST..children.len() - LAST).contains(&position) {
                    if position == FIRST {
                        let left_out = &children[FIRST..children.len() - LAST];
                        lines.push(Line { depth: below, key: elided(left_out), cells: None });
                    }
                    continue;
                }
                collect(child, key.to_string(), below, whole, lines);
            }
        }
    }
}

fn elided(children: &[(PathKey, Tree<Leaf>)]) -> String {
    let sum = children.iter().fold(Sum::default(), |sum, (_, child)| sum.and(child));
    format!(".. {} more: {sum}", children.len())
}

#[derive(Default)]
struct Sum {
    leaves: usize,
    elements: usize,
    bytes: usize,
}

impl Sum {
    fn of(tree: &Tree<Leaf>) -> Self {
        Self::default().and(tree)
    }

    fn and(mut self, tree: &Tree<Leaf>) -> Self {
        let Ok(()) = tree.try_for_each(|_, leaf| {
            self.leaves += 1;
            let elements = match &leaf.value {
                Value::Tensor(tensor) => tensor.element_count(),
                Value::Described(described) => described.element_count(),
                _ => 0,
            };
            self.elements = self.elements.saturating_add(elements);
            self.bytes = self.bytes.saturating_add(bytes(&leaf.value));
            Ok::<_, std::convert::Infallible>(())
        });
        self
    }
}

impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let leaves = if self.leaves == 1 { "leaf" } else { "leaves" };
        let (elements, bytes) = (grouped(self.elements), byte_size(self.bytes));
        write!(f, "{} {leaves}, {elements} elements, {bytes}", grouped(self.leaves))
    }
}

/// Dtype and shape of a tensor; anything else in words.
pub(crate) fn form(value: &Value) -> String {
    match value {
        Value::Tensor(tensor) => format!("{tensor:?}"),
        Value::Described(described) => format!("{described:?}"),
        Value::Keys(keys) => format!("keys{:?}", keys.dims()),
        Value::Counts(counts) => format!("counts{:?}", counts.dims()),
        Value::Count(count) => format!("count {count}"),
        other => other.kind().to_owned(),
    }
}

fn bytes(value: &Value) -> usize {
    match value {
        Value::Tensor(tensor) => tensor.element_count().saturating_mul(tensor.dtype().size_in_bytes()),
        Value::Key(_) => 8,
        Value::Keys(keys) => 8 * keys.elements().len(),
        Value::Count(_) => 4,
        Value::Counts(counts) => 4 * counts.elements().len(),
        Value::Described(described) => {
            described.element_count().saturating_mul(described.form().dtype().size_in_bytes())
        }
        Value::Opaque(_) | Value::Absent => 0,
    }
}

/// `1.2 MB`: of 1000, as on a disk's label.
pub fn byte_size(bytes: usize) -> String {
    let units = ["kB", "MB", "GB", "TB", "PB", "EB"];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64;
    let mut unit = "B";
    for next in units {
        if value < 999.95 {
            break;
        }
        value /= 1000.;
        unit = next;
    }
    format!("{value:.1} {unit}")
}

/// `12,345`.
pub fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Param, Path, RngCount};
    use candle_core::{DType, Device, Tensor};

    fn zeros(shape: &[usize]) -> Leaf {
        Param::leaf(Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap())
    }

    fn state(leaves: impl IntoIterator<Item = (String, Leaf)>) -> State {
        State::unflatten(leaves.into_iter().map(|(path, leaf)| (Path::from(path.as_str()), leaf))).unwrap()
    }

    #[test]
    fn shows_types_shapes_and_sizes() {
        let state = state([
            ("encoder.kernel".to_owned(), zeros(&[300, 500])),
            ("encoder.bias".to_owned(), zeros(&[500])),
            ("count".to_owned(), RngCount::leaf(3)),
        ]);
        let expected = "\
count     RngCount  count 3        4 B
encoder
  bias    Param     f32[500]       2.0 kB
  kernel  Param     f32[300, 500]  600.0 kB
3 leaves, 150,500 elements, 602.0 kB";
        assert_eq!(state.to_string(), expected);
        assert_eq!(State::default().to_string(), "0 leaves, 0 elements, 0 B");
        let alone: State = Tree::Leaf(zeros(&[])).into();
        assert_eq!(alone.to_string(), "(root)  Param  f32[]  4 B\n1 leaf, 1 elements, 4 B");
        assert!(state.to_variables().to_string().starts_with("RngCount\n  count     RngCount"));
    }

    #[test]
    fn cuts_long_lists_short() {
        let state = state((0..100).map(|index| (format!("layers.{index}.bias"), zeros(&[2]))));
        let expected = "\
layers
  0
    bias  Param  f32[2]  8 B
  1
    bias  Param  f32[2]  8 B
  2
    bias  Param  f32[2]  8 B
  3
    bias  Param  f32[2]  8 B
  .. 94 more: 94 leaves, 188 elements, 752 B
  98
    bias  Param  f32[2]  8 B
  99
    bias  Param  f32[2]  8 B
100 leaves, 200 elements, 800 B";
        assert_eq!(state.to_string(), expected);
        assert_eq!(format!("{state:#}").lines().count(), 202);
    }

    #[test]
    fn sizes_in_words() {
        let check = |bytes, expected: &str| assert_eq!(byte_size(bytes), expected);
        check(999, "999 B");
        check(1000, "1.0 kB");
        check(999_949, "999.9 kB");
        check(999_999, "1.0 MB");
        check(usize::MAX, "18.4 EB");
    }
}
