//! Medians side by side, as Markdown, each with its ratio to the last column.

use std::collections::BTreeMap;
use std::fmt;

use super::vmm::Vmm;
use super::{Sample, Value};

pub(super) struct Table {
    columns: Vec<Vmm>,
    rows: Vec<(&'static str, Vec<Option<f64>>)>,
}

impl Table {
    pub(super) fn new(columns: impl Iterator<Item = Vmm>) -> Table {
        Table { columns: columns.collect(), rows: Vec::new() }
    }

    pub(super) fn row(
        &mut self,
        title: &'static str,
        samples: &BTreeMap<Vmm, Vec<Sample>>,
        value: Value,
    ) {
        let medians = self
            .columns
            .iter()
            .map(|vmm| median(samples.get(vmm)?.iter().filter_map(value).collect()))
            .collect();
        self.rows.push((title, medians));
    }
}

impl fmt::Display for Table {
    fn fmt(&self, to: &mut fmt::Formatter) -> fmt::Result {
        write!(to, "| |")?;
        for vmm in &self.columns {
            write!(to, " {} |", vmm.name())?;
        }
        writeln!(to, "\n|-|{}", "-|".repeat(self.columns.len()))?;
        for (title, medians) in &self.rows {
            write!(to, "| {title} |")?;
            let last = medians.last().copied().flatten();
            for median in medians {
                match (median, last) {
                    (Some(value), Some(last)) if last > 0.0 => {
                        write!(to, " {} ({:.2}) |", plain(*value), value / last)?;
                    }
                    (Some(value), _) => write!(to, " {} |", plain(*value))?,
                    (None, _) => write!(to, " – |")?,
                }
            }
            writeln!(to)?;
        }
        writeln!(to, "\nMedians; in brackets the ratio to the last column.")
    }
}

fn plain(value: f64) -> String {
    if value < 100.0 { format!("{value:.2}") } else { format!("{value:.0}") }
}

pub(super) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(values[middle]),
        _ => Some((values[middle - 1] + values[middle]) / 2.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_ignores_one_outlier() {
        assert_eq!(median(vec![1.0, 900.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![1.0, 2.0]), Some(1.5));
        assert_eq!(median(vec![]), None);
    }

    #[test]
    fn ratios_are_to_the_last_column() {
        let sample = |n| vec![Sample::from([("n".to_owned(), n)])];
        let samples = BTreeMap::from([(Vmm::Manor, sample(200)), (Vmm::Q35, sample(500))]);
        let mut table = Table::new(samples.keys().copied());
        table.row("things", &samples, |s| s.get("n").map(|n| *n as f64));
        assert!(table.to_string().contains("| things | 200 (0.40) | 500 (1.00) |"), "{table}");
    }
}
