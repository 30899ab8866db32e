//! The documents of a manifest file: where they begin, and how one is replaced without touching the others.

use std::ops::Range;

/// One YAML document of a file, with its `---` line if it has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Document {
    /// Bytes of the file.
    pub(super) range: Range<usize>,
    /// Line of the file it begins on, counted from 1.
    pub(super) line: usize,
}

/// Finds the documents that have content. A `---` at the start of a line begins a document wherever it stands: inside
/// a mapping nothing else can begin there.
pub(super) fn split(text: &str) -> Vec<Document> {
    let mut documents = Vec::new();
    let mut current = Document {
        range: 0..0,
        line: 1,
    };
    let mut offset = 0;
    for (index, line) in text.split_inclusive('\n').enumerate() {
        if is_marker(line) {
            documents.push(current);
            current = Document {
                range: offset..offset,
                line: index + 1,
            };
        }
        offset += line.len();
        current.range.end = offset;
    }
    documents.push(current);
    documents.retain(|document| !is_blank(&text[document.range.clone()]));
    documents
}

/// The file with another content of one document. Comment lines before and after the content of the document stay.
pub(super) fn replace(text: &str, document: &Document, content: &str) -> String {
    let old = &text[document.range.clone()];
    let head: usize = old
        .split_inclusive('\n')
        .take_while(|line| is_filler(line))
        .map(str::len)
        .sum();
    let tail: usize = old[head..]
        .split_inclusive('\n')
        .rev()
        .take_while(|line| is_filler(line))
        .map(str::len)
        .sum();
    let mut new = String::with_capacity(text.len() + content.len());
    new.push_str(&text[..document.range.start + head]);
    // The marker of a document that begins on the same line is part of the content.
    if old[head..].starts_with("---") {
        new.push_str("---\n");
    }
    new.push_str(content);
    new.push_str(&text[document.range.end - tail..]);
    new
}

/// The file without one document; empty when nothing but comments is left.
pub(super) fn remove(text: &str, document: &Document) -> String {
    let rest = [&text[..document.range.start], &text[document.range.end..]].concat();
    if is_blank(&rest) { String::new() } else { rest }
}

/// The file with one more document at its end.
pub(super) fn append(text: &str, content: &str) -> String {
    if is_blank(text) {
        return [text, content].concat();
    }
    let newline = if text.ends_with('\n') { "" } else { "\n" };
    [text, newline, "---\n", content].concat()
}

fn is_marker(line: &str) -> bool {
    line.strip_prefix("---")
        .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
}

/// A line without content: blank, a comment, a directive, or a marker with nothing or a comment behind it.
fn is_filler(line: &str) -> bool {
    let rest = if is_marker(line) { &line[3..] } else { line };
    let rest = rest.trim();
    rest.is_empty() || rest.starts_with('#') || line.starts_with('%') || line.trim_end() == "..."
}

fn is_blank(text: &str) -> bool {
    text.lines().all(is_filler)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn documents(text: &str) -> Vec<&str> {
        split(text)
            .into_iter()
            .map(|document| &text[document.range])
            .collect()
    }

    #[test]
    fn documents_are_split_at_markers() {
        assert_eq!(documents("a: 1\n---\nb: 2\n"), ["a: 1\n", "---\nb: 2\n"]);
        assert_eq!(
            documents("# head\n---\na: 1\n--- # next\nb: 2"),
            ["---\na: 1\n", "--- # next\nb: 2"]
        );
        assert_eq!(documents("---\n---\n\n---\na: ---\n"), ["---\na: ---\n"]);
        assert_eq!(
            documents("a: 1\r\n---\r\nb: 2\r\n"),
            ["a: 1\r\n", "---\r\nb: 2\r\n"]
        );
        assert_eq!(
            documents("%YAML 1.2\n---\na: |\n  ---\n...\n"),
            ["---\na: |\n  ---\n...\n"]
        );
        assert!(documents("# nothing\n\n---\n").is_empty());
    }

    #[test]
    fn lines_are_counted_in_the_file() {
        assert_eq!(
            split("a: 1\n# x\n---\nb: 2\n")
                .into_iter()
                .map(|d| d.line)
                .collect::<Vec<_>>(),
            [1, 3]
        );
    }

    #[test]
    fn replacing_touches_only_one_document() {
        let text =
            "# pools\n---\n# first\na: 1\n# more\nb: 2\n# about the second\n---\nc:   3 # odd\n";
        let [first, second] = &split(text)[..] else {
            panic!("two documents")
        };
        assert_eq!(
            replace(text, first, "a: 9\n"),
            "# pools\n---\n# first\na: 9\n# about the second\n---\nc:   3 # odd\n"
        );
        assert!(replace(text, second, "c: 4\n").ends_with("# about the second\n---\nc: 4\n"));
    }

    #[test]
    fn content_on_the_marker_line_is_replaced_too() {
        let text = "--- {a: 1}\n---\nb: 2\n";
        assert_eq!(
            replace(text, &split(text)[0], "a: 9\n"),
            "---\na: 9\n---\nb: 2\n"
        );
    }

    #[test]
    fn removing_and_appending() {
        let text = "a: 1\n---\nb: 2\n";
        let documents = split(text);
        assert_eq!(remove(text, &documents[0]), "---\nb: 2\n");
        assert_eq!(remove(text, &documents[1]), "a: 1\n");
        assert_eq!(remove("# x\na: 1\n", &split("# x\na: 1\n")[0]), "");
        assert_eq!(append("a: 1", "b: 2\n"), "a: 1\n---\nb: 2\n");
        assert_eq!(
            append("# only a comment\n", "b: 2\n"),
            "# only a comment\nb: 2\n"
        );
    }
}
