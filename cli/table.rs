//! Tables in virsh's layout: one space before, three between, a line of dashes below the header.

use std::fmt::Write as _;

use crate::terminal::printable;

#[derive(Debug)]
pub(crate) struct Table {
    header: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(header: impl Into<Vec<&'static str>>) -> Self {
        Self { header: header.into(), rows: Vec::new() }
    }

    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.push(cells.into());
    }

    pub(crate) fn push(&mut self, cells: Vec<String>) {
        self.rows.push(cells.iter().map(|cell| printable(cell)).collect());
    }

    /// Without the header, columns are as wide as their cells alone.
    pub(crate) fn text(&self, with_header: bool) -> String {
        let header: Vec<_> = self.header.iter().map(|name| (*name).to_owned()).collect();
        let lines = with_header.then_some(&header).into_iter().chain(&self.rows);
        let widths: Vec<usize> = (0..header.len())
            .map(|column| {
                let cells = lines.clone().filter_map(|line| line.get(column));
                cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
            })
            .collect();
        let mut out = String::new();
        for (index, line) in lines.enumerate() {
            write_line(&mut out, line, &widths);
            if with_header && index == 0 {
                let dashes: usize = widths.iter().map(|width| width + 3).sum();
                let _ = writeln!(out, "{}", "-".repeat(dashes));
            }
        }
        out
    }
}

fn write_line(out: &mut String, cells: &[String], widths: &[usize]) {
    for (column, (cell, width)) in cells.iter().zip(widths).enumerate() {
        out.push_str(if column == 0 { " " } else { "   " });
        if column + 1 == cells.len() {
            out.push_str(cell);
        } else {
            let _ = write!(out, "{cell:width$}");
        }
    }
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domains(rows: &[[&str; 3]]) -> Table {
        let mut table = Table::new(["Id", "Name", "State"]);
        for row in rows {
            table.row(row.map(str::to_owned));
        }
        table
    }

    // What virsh 9.0 prints of these domains.
    #[test]
    fn the_layout_is_that_of_virsh() {
        let two = domains(&[["1", "test", "running"], ["-", "demo", "shut off"]]);
        let expected = " Id   Name   State
-----------------------
 1    test   running
 -    demo   shut off
";
        assert_eq!(two.text(true), expected);
        let none = " Id   Name   State
--------------------
";
        assert_eq!(domains(&[]).text(true), none);
    }

    #[test]
    fn without_its_header_a_table_is_as_wide_as_its_cells() {
        assert_eq!(domains(&[["1", "test", "running"]]).text(false), " 1   test   running\n");
        assert_eq!(domains(&[]).text(false), "");
    }

    #[test]
    fn an_empty_last_column_leaves_its_gap() {
        let mut table = Table::new(["Id", "Name", "State", "Title"]);
        table.row(["1", "test", "running", ""].map(str::to_owned));
        table.row(["-", "demo", "shut off", "A title"].map(str::to_owned));
        let text = table.text(true);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], " Id   Name   State      Title");
        assert_eq!(lines[1], "-".repeat(33));
        assert_eq!(lines[2], " 1    test   running    ");
        assert_eq!(lines[3], " -    demo   shut off   A title");
    }

    #[test]
    fn wide_columns_push_the_others() {
        let mut table = Table::new(["Interface", "Type", "Source", "Model", "MAC"]);
        table.row(["testnet0", "bridge", "br0", "virtio", "52:54:00:11:22:33"].map(str::to_owned));
        table.row(["testnet1", "ethernet", "-", "virtio", "52:54:00:11:22:34"].map(str::to_owned));
        let expected = " Interface   Type       Source   Model    MAC
-------------------------------------------------------------
 testnet0    bridge     br0      virtio   52:54:00:11:22:33
 testnet1    ethernet   -        virtio   52:54:00:11:22:34
";
        assert_eq!(table.text(true), expected);
    }

    #[test]
    fn a_name_cannot_draw_on_the_terminal() {
        let table = domains(&[["1", "a\x1b[2Jb\n", "running"]]);
        assert!(table.text(true).contains(" 1    a\\x1b[2Jb\\x0a   running\n"));
    }
}
