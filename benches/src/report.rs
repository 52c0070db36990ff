//! The table and the results file.

use std::fmt::Write;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use crate::harness::{Measured, Outcome};
use crate::probe::BUSY_BELOW;

const HEADER: [&str; 8] = ["name", "ours", "peer", "unit", "ours/peer", "peer is", "scaling", ""];

/// One line a row; numbers to the right.
pub(crate) fn table(rows: &[Measured]) -> String {
    let mut lines = vec![HEADER.map(str::to_owned)];
    for row in rows {
        let optional = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), number);
        lines.push([
            row.name.clone(),
            number(row.ours),
            optional(row.peer),
            row.unit.clone(),
            optional(row.ratio),
            row.peer_name.clone().unwrap_or_else(|| "-".to_owned()),
            format!("{:.2}", row.scaling),
            if row.scaling < BUSY_BELOW { "busy machine" } else { "" }.to_owned(),
        ]);
    }
    let widths: [usize; 8] =
        std::array::from_fn(|column| lines.iter().map(|line| line[column].len()).max().unwrap_or(0));
    let mut table = String::new();
    for line in lines {
        let mut text = String::new();
        for (column, (cell, width)) in line.iter().zip(widths).enumerate() {
            // Writing to a string does not fail.
            let _ = match column {
                1 | 2 | 4 | 6 => write!(text, "{cell:>width$}  "),
                _ => write!(text, "{cell:<width$}  "),
            };
        }
        table.push_str(text.trim_end());
        table.push('\n');
    }
    table
}

/// Three significant digits or more.
fn number(value: f64) -> String {
    match value.abs() {
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        1.0.. => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// Removes the results of an earlier run, so that they are never taken for those of one that failed.
pub(crate) fn clear(file: &Path) -> Outcome {
    match fs::remove_file(file) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

/// Writes the results file.
pub(crate) fn write(file: &Path, rows: &[Measured]) -> Outcome {
    if let Some(directory) = file.parent() {
        fs::create_dir_all(directory)?;
    }
    fs::write(file, serde_json::to_string_pretty(rows)? + "\n")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn rows() -> [Measured; 2] {
        let alone = Measured {
            name: "probe/alone".to_owned(),
            ours: 1.25,
            peer: None,
            peer_name: None,
            unit: "ms".to_owned(),
            ratio: None,
            scaling: 1.95,
        };
        let against = Measured {
            name: "graph/split".to_owned(),
            ours: 50.0,
            peer: Some(100.0),
            peer_name: Some("other".to_owned()),
            unit: "ns/leaf".to_owned(),
            ratio: Some(0.5),
            scaling: 1.2,
        };
        [alone, against]
    }

    #[test]
    fn the_file_has_null_where_no_peer_ran() {
        let expected = json!([
            {
                "name": "probe/alone", "ours": 1.25, "peer": null, "peer_name": null, "unit": "ms",
                "ratio": null, "scaling": 1.95,
            },
            {
                "name": "graph/split", "ours": 50.0, "peer": 100.0, "peer_name": "other", "unit": "ns/leaf",
                "ratio": 0.5, "scaling": 1.2,
            },
        ]);
        assert_eq!(serde_json::to_value(rows()).unwrap(), expected);
    }

    #[test]
    fn the_table_marks_rows_of_a_busy_machine() {
        let expected = "\
name         ours  peer  unit     ours/peer  peer is  scaling
probe/alone  1.25     -  ms               -  -           1.95
graph/split  50.0   100  ns/leaf      0.500  other       1.20  busy machine
";
        assert_eq!(table(&rows()), expected);
    }
}
