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

/// Wraps the lines of `text` that are longer than [`WIDTH`], and keeps the others. What follows is
/// indented a little deeper, or as deep as the text after a label.
pub(crate) fn wrap_lines(text: &str) -> String {
    let mut wrapped = String::new();
    for line in text.split_inclusive('\n') {
        let mut rest = line.trim_end_matches('\n');
        let end = &line[rest.len()..];
        let indent = hanging_indent(rest);
        let mut column = 0;
        while column + rest.chars().count() > WIDTH
            && let Some((head, tail)) = split_at_space(rest, WIDTH - column)
        {
            wrapped.push_str(head);
            wrapped.push('\n');
            wrapped.push_str(&" ".repeat(indent));
            (rest, column) = (tail, indent);
        }
        wrapped.push_str(rest);
        wrapped.push_str(end);
    }
    wrapped
}

/// Maximum column of the text after a label.
const MAX_LABEL: usize = 20;

/// Returns the column of the text after a label and at least two spaces, or two more than the
/// line's own indentation.
fn hanging_indent(line: &str) -> usize {
    let indent = line.len() - line.trim_start().len();
    let label = line[indent..].find("  ").map(|label| indent + label);
    let text = label.map(|label| line.len() - line[label..].trim_start().len());
    text.filter(|&text| text <= MAX_LABEL).unwrap_or(indent + 2)
}

/// Splits at the last space with at most `width` characters before it; at the first one if there is
/// none.
fn split_at_space(text: &str, width: usize) -> Option<(&str, &str)> {
    let indent = text.len() - text.trim_start().len();
    let spaces = text
        .char_indices()
        .enumerate()
        .filter(|&(_, (byte, letter))| letter == ' ' && byte >= indent);
    let (before, after): (Vec<_>, Vec<_>) =
        spaces.map(|(column, (byte, _))| (column, byte)).partition(|(column, _)| *column <= width);
    let (_, byte) = before.last().or(after.first())?;
    Some((text[..*byte].trim_end(), text[*byte..].trim_start()))
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
        assert_eq!(wrapped.split_whitespace().count(), 31);
        let labelled = format!("  time        1.5 s  of\n  memory      {text}");
        let wrapped = wrap_lines(&labelled);
        assert!(wrapped.starts_with("  time        1.5 s  of\n  memory      "), "{wrapped}");
        assert!(wrapped.contains("\n                word"), "{wrapped}");
        let long = "x".repeat(100);
        assert_eq!(wrap(&format!("a {long} b"), 2), format!("a\n  {long}\n  b"));
    }
}
