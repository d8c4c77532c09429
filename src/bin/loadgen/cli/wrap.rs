//! Text that fits a terminal.

/// Width of a terminal that everything fits, in characters.
pub(crate) const WIDTH: usize = 80;

/// Wraps `text` at spaces so that no line is longer than [`WIDTH`], and indents all lines but the
/// first by `indent`. A longer word has a line of its own.
pub(crate) fn wrap(text: &str, indent: usize) -> String {
    wrap_after(0, text, indent)
}

/// The same for text that follows `used` characters on its line.
pub(crate) fn wrap_after(used: usize, text: &str, indent: usize) -> String {
    let mut wrapped = String::new();
    let mut column = used;
    for word in text.split([' ', '\n']).filter(|word| !word.is_empty()) {
        let width = word.chars().count();
        if !wrapped.is_empty() {
            if column + 1 + width > WIDTH {
                wrapped.push('\n');
                wrapped.push_str(&" ".repeat(indent));
                column = indent;
            } else {
                wrapped.push(' ');
                column += 1;
            }
        }
        wrapped.push_str(word);
        column += width;
    }
    wrapped
}

/// Wraps the lines of `text` that are longer than [`WIDTH`], and indents what follows a little
/// deeper.
pub(crate) fn wrap_lines(text: &str) -> String {
    let mut wrapped = String::new();
    for line in text.split_inclusive('\n') {
        let content = line.trim_end_matches('\n');
        if content.chars().count() <= WIDTH {
            wrapped.push_str(line);
            continue;
        }
        let indent = content.len() - content.trim_start_matches(' ').len();
        wrapped.push_str(&" ".repeat(indent));
        wrapped.push_str(&wrap_after(indent, content, indent + 2));
        wrapped.push_str(&line[content.len()..]);
    }
    wrapped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_fit() {
        let text = "word ".repeat(100);
        let wrapped = wrap_after(30, &text, 4);
        let mut lines = wrapped.lines();
        assert!(lines.next().is_some_and(|line| line.chars().count() <= WIDTH - 30));
        assert!(lines.all(|line| line.chars().count() <= WIDTH && line.starts_with("    word")));
        assert_eq!(wrapped.split_whitespace().count(), 100);
        assert_eq!(wrap("a  b\nc", 2), "a b c");
        let text = format!("  {}\nshort\n", "word ".repeat(30).trim_end());
        let wrapped = wrap_lines(&text);
        assert!(wrapped.lines().all(|line| line.chars().count() <= WIDTH));
        assert!(wrapped.starts_with("  word") && wrapped.contains("\n    word"));
        assert!(wrapped.ends_with("word\nshort\n"));
        let long = "x".repeat(100);
        assert_eq!(wrap(&format!("a {long} b"), 2), format!("a\n  {long}\n  b"));
    }
}
