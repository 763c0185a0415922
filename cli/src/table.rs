//! How does a table look? As istioctl's: columns with spaces between them, nothing is cut.

use comfy_table::{ContentArrangement, Table, presets};

/// A table from its header and rows.
pub(crate) fn render(header: &[&str], rows: Vec<Vec<String>>) -> String {
    render_with(header, rows, 5)
}

/// A table with `gap` spaces between its columns.
pub(crate) fn render_with(header: &[&str], rows: Vec<Vec<String>>, gap: u16) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(header);
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, gap));
    }
    table.lines().flat_map(|line| [line.trim_end().to_owned(), "\n".to_owned()]).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn columns_are_aligned_and_lines_have_no_spaces_at_their_end() {
        let rows = vec![vec!["a".into(), "1".into()], vec!["long".into(), String::new()]];
        assert_eq!(super::render_with(&["N", "V"], rows, 2), "N     V\na     1\nlong\n");
    }
}
