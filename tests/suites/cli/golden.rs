//! Comparing with a file of the repository.

use std::path::Path;

/// Asserts that `actual` is what the file says; with `UPDATE_GOLDEN` set, writes the file instead.
pub(crate) fn assert_matches(file: &Path, actual: &str) {
    // Which components are bundled is no business of these texts: adding one changes none of them.
    let actual = without_bundled_names(actual);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(file.parent().expect("a golden file is in a folder")).expect("the folder is made");
        std::fs::write(file, actual).expect("the golden file is written");
        return;
    }
    let expected = std::fs::read_to_string(file)
        .unwrap_or_else(|error| panic!("{}: {error}; UPDATE_GOLDEN=1 writes it", file.display()));
    assert_eq!(
        actual,
        expected,
        "{} differs; UPDATE_GOLDEN=1 writes it anew",
        file.display()
    );
}

fn without_bundled_names(text: &str) -> String {
    let mark = "bundled are: ";
    let line = |line: &str| match line.split_once(mark) {
        None => line.to_owned(),
        Some((before, after)) => {
            let end = after.find(';').unwrap_or(after.len());
            format!("{before}{mark}…{}", &after[end..])
        }
    };
    let lines: Vec<String> = text.lines().map(line).collect();
    lines.join("\n") + if text.ends_with('\n') { "\n" } else { "" }
}
