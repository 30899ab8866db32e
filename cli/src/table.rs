//! Columns as wide as their widest cell.

/// A table with a header; the columns in `right` have numbers.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
    right: Vec<bool>,
}

impl Table {
    /// A table with these columns; a name that begins with `>` is that of a column of numbers.
    pub(crate) fn new(columns: &[&str]) -> Self {
        let right = columns.iter().map(|name| name.starts_with('>')).collect();
        let header = columns
            .iter()
            .map(|name| name.trim_start_matches('>').to_owned());
        Table {
            rows: vec![header.collect()],
            right,
        }
    }

    /// Adds a line; it has a cell for each column.
    pub(crate) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// Whether there is a line below the header.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.len() == 1
    }

    /// The lines, each with a line feed.
    pub(crate) fn text(&self) -> String {
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.right.len()).map(width).collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for ((cell, width), right) in row.iter().zip(&widths).zip(&self.right) {
                if *right {
                    line.push_str(&format!("{cell:>width$}  "));
                } else {
                    line.push_str(&format!("{cell:width$}  "));
                }
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// `3d4h`, `5m10s`: the two largest units.
pub(crate) fn age(secs: u64) -> String {
    let units = [("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)];
    let Some(first) = units.iter().position(|(_, size)| secs >= *size) else {
        return "0s".to_owned();
    };
    let mut rest = secs;
    let mut text = String::new();
    for (unit, size) in units.iter().skip(first).take(2) {
        if rest / size > 0 {
            text.push_str(&format!("{}{unit}", rest / size));
        }
        rest %= size;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_have_two_units() {
        let ages = [0, 59, 60, 3_661, 90_000].map(age);
        assert_eq!(["0s", "59s", "1m", "1h1m", "1d1h"].map(str::to_owned), ages);
    }

    #[test]
    fn columns_are_aligned_numbers_to_the_right() {
        let mut table = Table::new(&["A", ">NUMBER", "LAST"]);
        assert!(table.is_empty());
        table.row(["wide", "7", "x"].map(str::to_owned).to_vec());
        table.row(["b", "1234567", ""].map(str::to_owned).to_vec());
        assert_eq!(
            "A      NUMBER  LAST\nwide        7  x\nb     1234567\n",
            table.text()
        );
    }
}
