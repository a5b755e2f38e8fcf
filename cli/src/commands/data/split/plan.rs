//! Which side a row goes to.

use std::collections::HashSet;
use std::path::Path;

use paddock_datasets::record::Record;
use paddock_datasets::split::{SplitOptions, group_keys, split, split_by_order, split_stratified};

use super::{Args, By, EXACT_ROWS, Known, SIDES, row_key, value};
use crate::data::sides::{Cuts, Shares, number};
use crate::error::bad_input;

/// How rows are told their side.
pub(super) enum Plan {
    /// The side of each row: 0 train, 1 validation, 2 test.
    Exact(Vec<u8>),
    /// By the row's own text or group.
    ByKey(Shares),
    /// By its place in an order.
    ByOrder(Cuts),
}

impl Args {
    pub(super) fn plan(&self, known: &Known, twins: &[Option<usize>]) -> anyhow::Result<Plan> {
        if known.rows <= EXACT_ROWS as u64 {
            let keys = self.keys(known, twins);
            let sides = self.sides(known, &keys)?;
            let mut counts = [0; 3];
            sides.iter().for_each(|side| counts[usize::from(*side)] += 1);
            let groups = match self.by {
                By::Random | By::Stratified => keys.iter().collect::<HashSet<_>>().len(),
                By::Group | By::Order => known.values.iter().collect::<HashSet<_>>().len(),
            };
            self.refuse_empty(counts, Some(groups))?;
            return Ok(Plan::Exact(sides));
        }
        let Args { test, validation, seed, .. } = *self;
        let shares = Shares { test, validation, seed };
        Ok(match self.by {
            By::Order => Plan::ByOrder(known.places.cuts(&shares)),
            _ => Plan::ByKey(shares),
        })
    }

    /// Refuses sides that are asked for and get no row. `groups`: how many there are that are never divided, if
    /// that is known.
    pub(super) fn refuse_empty(
        &self,
        counts: [u64; 3],
        groups: Option<usize>,
    ) -> anyhow::Result<()> {
        let Some(empty) = (0..3).find(|side| self.uses(*side) && counts[*side] == 0) else {
            return Ok(());
        };
        let rows: u64 = counts.iter().sum();
        let groups = match groups {
            None => "too few groups".to_string(),
            Some(1) => "1 group".to_string(),
            Some(count) => format!("{count} groups"),
        };
        let column = self.column.as_deref().unwrap_or_default();
        let why = match self.by {
            By::Random if self.keep_twins_together => format!(
                "the {rows} rows count as {groups} of near twins, as a long text that many rows share \
                 makes of them. Split without --keep-twins-together, or with a higher --leak-threshold"
            ),
            By::Random => format!(
                "the {rows} rows count as {groups} of equal rows. Give more rows that differ, or ask \
                 for fewer sides"
            ),
            By::Stratified => format!(
                "the {rows} rows count as {groups} of equal rows, too few for the labels in column \
                 {column:?}. Give more rows that differ, or ask for fewer sides"
            ),
            By::Group => format!(
                "the {rows} rows are of {groups} by column {column:?}. Name a column with more or \
                 smaller groups, or ask for fewer sides"
            ),
            By::Order => format!(
                "the {rows} rows are of {groups} by column {column:?}: rows with equal values stay \
                 together. Name a column with more different values, or ask for fewer sides"
            ),
        };
        Err(bad_input(format!(
            "{}.jsonl would get no row: a group is never divided, and no more than half of the rows \
             are held out; {why}. Nothing was written",
            SIDES[empty]
        )))
    }

    /// The side of a row by its number and content.
    pub(super) fn side(
        &self,
        plan: &Plan,
        row: usize,
        record: &Record,
    ) -> anyhow::Result<Option<usize>> {
        let own = || value(record, self.column.as_deref().unwrap_or_default());
        Ok(match plan {
            Plan::Exact(sides) => sides.get(row).map(|side| usize::from(*side)),
            Plan::ByKey(shares) if self.by == By::Group => {
                let keys = group_keys(&[own()?.as_str()]);
                keys.first().map(|key| shares.by_key(*key))
            }
            Plan::ByKey(shares) => Some(shares.by_key(row_key(record)?)),
            Plan::ByOrder(cuts) => Some(cuts.side(&own()?)),
        })
    }

    /// What keeps rows together: equal ones, and near twins if that is asked for.
    fn keys(&self, known: &Known, twins: &[Option<usize>]) -> Vec<u128> {
        let mut keys = known.keys.clone();
        if self.keep_twins_together {
            for (row, twin) in twins.iter().enumerate() {
                keys[row] = known.keys[twin.unwrap_or(row)];
            }
        }
        keys
    }

    /// The side of each row: 0 train, 1 validation, 2 test.
    fn sides(&self, known: &Known, keys: &[u128]) -> anyhow::Result<Vec<u8>> {
        let mut sides = vec![0u8; keys.len()];
        let mut left: Vec<usize> = (0..keys.len()).collect();
        for (side, share) in [(2, self.test), (1, self.validation)] {
            if share == 0.0 {
                continue;
            }
            // Shares are of all rows; what is left after the test rows is fewer.
            let share = (share * keys.len() as f64 / left.len() as f64).min(0.5);
            let options = SplitOptions { share, min_rows: 1, seed: self.seed };
            let held = self.held(&left, keys, known, &options)?;
            held.iter().for_each(|i| sides[left[*i]] = side);
            left.retain(|row| sides[*row] == 0);
        }
        Ok(sides)
    }

    fn held(
        &self,
        rows: &[usize],
        keys: &[u128],
        known: &Known,
        options: &SplitOptions,
    ) -> anyhow::Result<Vec<usize>> {
        let own: Vec<u128> = rows.iter().map(|row| keys[*row]).collect();
        let texts = || rows.iter().map(|row| known.values[*row].as_str()).collect::<Vec<&str>>();
        let parts = match self.by {
            By::Random => split(&own, options),
            By::Stratified => split_stratified(&own, &texts(), options)?,
            By::Group => split(&group_keys(&texts()), options),
            By::Order => {
                let texts = texts();
                let numbers: Option<Vec<f64>> = texts.iter().map(|text| number(text)).collect();
                match numbers {
                    Some(numbers) => {
                        let places: Vec<i64> = numbers.iter().map(|n| ordered(*n)).collect();
                        split_by_order(&places, options)
                    }
                    None => split_by_order(&texts, options),
                }
            }
        };
        Ok(parts.validation)
    }
}

/// A number as an integer that sorts the same way.
fn ordered(number: f64) -> i64 {
    let bits = number.to_bits() as i64;
    bits ^ (((bits >> 63) as u64) >> 1) as i64
}

/// Refuses a value of another kind than the first one of its column: numbers among other texts would be put in
/// order as text, 10 before 9.
pub(super) fn same_kind(
    numbers: &mut Option<bool>,
    value: &str,
    column: &str,
    (path, row): (&Path, u64),
) -> anyhow::Result<()> {
    let is_number = number(value).is_some();
    if *numbers.get_or_insert(is_number) == is_number {
        return Ok(());
    }
    let words = if is_number {
        "a number, and the rows before it hold none"
    } else {
        "no number, and the rows before it hold numbers"
    };
    Err(bad_input(format!(
        "{}: row {row}: column {column:?} is {value:?}, {words}; rows are put in order by numbers or by \
         other text, so mend the column, or name another one with --column",
        path.display()
    )))
}

/// Refuses to keep twins together where not all rows could be compared, or where each row is told its side by
/// itself.
pub(super) fn refuse_too_many(rows: u64, compared: u64) -> anyhow::Result<()> {
    if compared == rows && rows <= EXACT_ROWS as u64 {
        return Ok(());
    }
    let what = if compared == rows {
        format!("that is done for up to {EXACT_ROWS} rows, and there are {rows}")
    } else {
        format!("there are too many for that: {compared} of {rows} were compared")
    };
    Err(bad_input(format!(
        "--keep-twins-together compares all rows in memory, and {what}. Split without it and look at \
         what it reports"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twins_are_kept_together_of_all_rows_or_not_at_all() {
        let most = EXACT_ROWS as u64;
        assert!(refuse_too_many(most, most).is_ok());
        let words = |rows, compared| refuse_too_many(rows, compared).map_err(|e| e.to_string());
        assert!(
            words(most, most - 1).is_err_and(|e| e.contains("999999 of 1000000 were compared"))
        );
        let error = words(most + 1, most + 1);
        assert!(error.is_err_and(|e| e.contains("up to 1000000 rows, and there are 1000001")));
    }

    #[test]
    fn numbers_and_other_text_are_not_mixed() {
        let check = |values: &[&str]| {
            let mut numbers = None;
            let place = |row: usize| (Path::new("a.csv"), row as u64);
            let each = values.iter().enumerate();
            each.map(|(row, value)| same_kind(&mut numbers, value, "day", place(row)))
                .collect::<anyhow::Result<Vec<()>>>()
                .map_err(|error| error.to_string())
        };
        assert!(check(&["9", " 10", "-1.5e3"]).is_ok() && check(&["2024-01", "x", "NaN"]).is_ok());
        let error = check(&["9", "10", "?", "x"]).expect_err("mixed");
        assert!(error.starts_with("a.csv: row 2: column \"day\" is \"?\", no number"), "{error}");
        let error = check(&["x", "9"]).expect_err("mixed");
        assert!(error.contains("row 1") && error.contains("a number, and the rows"), "{error}");
    }
}
