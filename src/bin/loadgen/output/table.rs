//! Tables of a report.

use std::fmt::Write as _;

use super::html::escaped;

/// A table with a name per row.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    title: String,
    head: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table without rows. The first column has the rows' names.
    pub(crate) fn new(title: impl Into<String>, head: &[&str]) -> Table {
        let head = head.iter().map(|&name| name.to_owned()).collect();
        Table { title: title.into(), head, rows: Vec::new() }
    }

    pub(crate) fn add(&mut self, row: impl IntoIterator<Item = String>) {
        self.rows.push(row.into_iter().collect());
    }

    /// Adds a row with the rest of the columns empty.
    pub(crate) fn add_pair(&mut self, name: &str, value: String) {
        self.add([name.to_owned(), value]);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub(super) fn draw(&self) -> String {
        let mut text =
            format!("<div class=\"table\"><table><caption>{}</caption>", escaped(&self.title));
        if self.head.iter().any(|name| !name.is_empty()) {
            text.push_str("<thead><tr>");
            self.head.iter().for_each(|name| {
                let _ = write!(text, "<th scope=\"col\">{}", escaped(name));
            });
            text.push_str("</thead>");
        }
        text.push_str("<tbody>");
        for row in &self.rows {
            text.push_str("\n<tr>");
            for column in 0..self.head.len() {
                let cell = escaped(row.get(column).map_or("", String::as_str));
                let _ = match column {
                    0 => write!(text, "<th scope=\"row\">{cell}"),
                    _ => write!(text, "<td>{cell}"),
                };
            }
        }
        text.push_str("</table></div>\n");
        text
    }
}
