//! A day, written as chat templates ask for it.

use std::fmt::Write;

/// A day of the Gregorian calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Date {
    year: u32,
    month: u32,
    day: u32,
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] =
    ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

impl Date {
    /// Reads `2026-01-31`.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let mut next = |len: usize| {
            let part = parts.next().filter(|p| p.len() == len)?;
            part.parse::<u32>().ok()
        };
        let (year, month, day) = (next(4)?, next(2)?, next(2)?);
        if parts.next().is_some() || year == 0 || !(1..=12).contains(&month) {
            return None;
        }
        (day >= 1 && day <= days_in(year, month)).then_some(Self { year, month, day })
    }

    /// Python's `strftime` at midnight of the day: the directives for days, months, years and
    /// hours; others stay as they are.
    pub fn format(self, format: &str) -> String {
        let month = MONTHS[self.month as usize - 1];
        let weekday = DAYS[self.weekday()];
        let mut out = String::new();
        let mut chars = format.chars();
        while let Some(c) = chars.next() {
            if c != '%' {
                out.push(c);
                continue;
            }
            // Writing to a String cannot fail.
            let _ = match chars.next() {
                Some('d') => write!(out, "{:02}", self.day),
                Some('m') => write!(out, "{:02}", self.month),
                Some('Y') => write!(out, "{:04}", self.year),
                Some('y') => write!(out, "{:02}", self.year % 100),
                Some('B') => write!(out, "{month}"),
                Some('b') => write!(out, "{}", &month[..3]),
                Some('A') => write!(out, "{weekday}"),
                Some('a') => write!(out, "{}", &weekday[..3]),
                Some('j') => write!(out, "{:03}", self.day_of_year()),
                Some('H' | 'M' | 'S') => write!(out, "00"),
                Some('%') => write!(out, "%"),
                Some(other) => write!(out, "%{other}"),
                None => write!(out, "%"),
            };
        }
        out
    }

    fn day_of_year(self) -> u32 {
        (1..self.month).map(|month| days_in(self.year, month)).sum::<u32>() + self.day
    }

    /// 0 is Monday.
    fn weekday(self) -> usize {
        let years = self.year - 1;
        // The first day of year 1 was a Monday.
        let days = years * 365 + years / 4 - years / 100 + years / 400 + self.day_of_year() - 1;
        (days % 7) as usize
    }
}

fn days_in(year: u32, month: u32) -> u32 {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}
