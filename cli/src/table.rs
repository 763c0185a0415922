//! How does a table look? As istioctl's: columns with spaces between them, nothing is cut.

use comfy_table::{ContentArrangement, Table, presets};

/// A table from its header and rows.
pub(crate) fn render(header: &[&str], rows: Vec<Vec<String>>) -> String {
    table(header, &rows, 5).lines().flat_map(|line| [line.trim_end().to_owned(), "\n".to_owned()]).collect()
}

/// A table with `gap` spaces between its columns, byte for byte what istioctl prints.
///
/// Go's tabwriter fills up every cell but the last of a line, so a line whose last cell is empty ends with spaces.
pub(crate) fn columns(header: &[&str], rows: &[Vec<String>], gap: usize) -> String {
    let table = table(header, rows, gap);
    let widths = table.column_max_content_widths();
    let before_last = widths.split_last().map_or(&[][..], |(_, others)| others);
    let last: usize = before_last.iter().map(|width| usize::from(*width) + gap).sum();
    table.lines().flat_map(|line| [format!("{:<last$}", line.trim_end()), "\n".to_owned()]).collect()
}

fn table(header: &[&str], rows: &[Vec<String>], gap: usize) -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(header);
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, u16::try_from(gap).unwrap_or(u16::MAX)));
    }
    table
}

#[cfg(test)]
mod tests {
    fn rows() -> Vec<Vec<String>> {
        vec![vec!["a".into(), "1".into()], vec!["long".into(), String::new()]]
    }

    #[test]
    fn columns_are_aligned_and_lines_have_no_spaces_at_their_end() {
        assert_eq!(super::render(&["N", "V"], rows()), "N        V\na        1\nlong\n");
    }

    #[test]
    fn tables_of_istioctl_fill_up_every_cell_but_the_last() {
        assert_eq!(super::columns(&["N", "V"], &rows(), 2), "N     V\na     1\nlong  \n");
        assert_eq!(super::columns(&["ADDRESS", "PORT"], &[], 1), "ADDRESS PORT\n");
    }
}
