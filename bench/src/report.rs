//! Tables, as Markdown for people and as JSON for programs.

use serde_json::{Map, Value, json};
use std::fmt::Write;

/// A whole report.
pub(crate) struct Report {
    facts: Vec<(&'static str, String)>,
    tables: Vec<Table>,
}

/// A table and what must be known to read it.
pub(crate) struct Table {
    /// Heading.
    pub(crate) title: String,
    /// Names of the columns.
    pub(crate) columns: Vec<String>,
    /// As many cells as columns in each.
    pub(crate) rows: Vec<Vec<Cell>>,
    /// What was measured, how, and what was skipped and why.
    pub(crate) notes: Vec<String>,
}

/// A cell of a table.
pub(crate) enum Cell {
    /// A word or two.
    Text(String),
    /// A number, and how many digits after its point are meaningful.
    Number(f64, usize),
    /// A number that does not exist.
    Nothing,
}

impl Cell {
    /// A cell with a word or two.
    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    fn to_markdown(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Number(number, digits) => format!("{number:.digits$}"),
            Self::Nothing => "–".to_owned(),
        }
    }

    fn to_json(&self) -> Value {
        match self {
            Self::Text(text) => json!(text),
            Self::Number(number, _) => json!(number),
            Self::Nothing => Value::Null,
        }
    }
}

impl Report {
    /// A report that starts with facts: name and value.
    pub(crate) fn new(facts: Vec<(&'static str, String)>) -> Self {
        Self { facts, tables: Vec::new() }
    }

    /// Adds tables.
    pub(crate) fn extend(&mut self, tables: Vec<Table>) {
        self.tables.extend(tables);
    }

    /// The report for people.
    pub(crate) fn to_markdown(&self) -> String {
        let mut text = String::new();
        for (name, value) in &self.facts {
            // Writing to a string does not fail.
            _ = writeln!(text, "- {name}: {value}");
        }
        for table in &self.tables {
            _ = write!(text, "\n## {}\n\n", table.title);
            line(&mut text, table.columns.iter().cloned());
            let numeric = |column| table.rows.iter().all(|row: &Vec<Cell>| !matches!(row[column], Cell::Text(_)));
            line(&mut text, (0..table.columns.len()).map(|column| if numeric(column) { "--:" } else { "---" }.into()));
            for row in &table.rows {
                line(&mut text, row.iter().map(Cell::to_markdown));
            }
            if !table.notes.is_empty() {
                text.push('\n');
            }
            for note in &table.notes {
                _ = writeln!(text, "- {note}");
            }
        }
        text
    }

    /// The report for programs.
    pub(crate) fn to_json(&self) -> Value {
        let facts: Map<String, Value> = self.facts.iter().map(|(name, value)| ((*name).into(), json!(value))).collect();
        let table = |table: &Table| {
            let row = |row: &Vec<Cell>| {
                Value::Object(table.columns.iter().cloned().zip(row.iter().map(Cell::to_json)).collect())
            };
            json!({
                "title": table.title,
                "rows": table.rows.iter().map(row).collect::<Vec<_>>(),
                "notes": table.notes,
            })
        };
        json!({ "facts": facts, "tables": self.tables.iter().map(table).collect::<Vec<_>>() })
    }
}

fn line(text: &mut String, cells: impl Iterator<Item = String>) {
    text.push('|');
    for cell in cells {
        _ = write!(text, " {cell} |");
    }
    text.push('\n');
}
