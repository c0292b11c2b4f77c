//! When a schedule is due: five cron fields in a time zone.

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::tz::TimeZone;
use pointsman_model::{Timestamp, limits};

/// Five fields and the time zone that they are meant in.
#[derive(Debug)]
pub(crate) struct Timetable {
    cron: Cron,
    timezone: TimeZone,
}

/// What is wrong: the field of the contract, and in words.
pub(crate) type Invalid = (&'static str, String);

impl Timetable {
    /// Reads both.
    pub(crate) fn parse(cron: &str, timezone: &str) -> Result<Self, Invalid> {
        for (field, text) in [("cron", cron), ("timezone", timezone)] {
            if text.len() > limits::SCHEDULE_TEXT_BYTES_MAX {
                return Err((field, format!("at most {} bytes", limits::SCHEDULE_TEXT_BYTES_MAX)));
            }
        }
        if cron.split_ascii_whitespace().count() != 5 {
            return Err(("cron", "five fields: minute, hour, day of the month, month, day of the week".into()));
        }
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let cron = parser.parse(cron).map_err(|error| ("cron", error.to_string()))?;
        let timezone = TimeZone::get(timezone).map_err(|_| ("timezone", "no IANA time zone of that name".into()))?;
        Ok(Self { cron, timezone })
    }

    /// The first time after `after`; `None` if there is none in reach.
    pub(crate) fn next(&self, after: Timestamp) -> Option<Timestamp> {
        let after_ms = i64::try_from(after.0).ok()?;
        let zoned = jiff::Timestamp::from_millisecond(after_ms).ok()?.to_zoned(self.timezone.clone());
        let next = self.cron.find_next_occurrence(&zoned, false).ok()?;
        let next = Timestamp(u64::try_from(next.timestamp().as_millisecond()).ok()?);
        (next > after).then_some(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        Timestamp(text.parse::<jiff::Timestamp>().unwrap().as_millisecond() as u64)
    }

    fn check(cron: &str, timezone: &str, after: &str, expected: &str) {
        let next = Timetable::parse(cron, timezone).unwrap().next(at(after));
        assert_eq!(next, Some(at(expected)), "{cron} {timezone} after {after}");
    }

    #[test]
    fn the_next_time_in_a_time_zone() {
        check("* * * * *", "UTC", "2026-11-21T10:00:00Z", "2026-11-21T10:01:00Z");
        check("* * * * *", "UTC", "2026-11-21T10:00:59.999Z", "2026-11-21T10:01:00Z");
        check("30 9 * * 1-5", "Europe/Berlin", "2026-11-21T10:00:00Z", "2026-11-23T08:30:00Z");
        check("30 9 * * *", "Europe/Berlin", "2026-07-01T10:00:00Z", "2026-07-02T07:30:00Z");
        check("0 0 29 2 *", "UTC", "2026-11-21T10:00:00Z", "2028-02-29T00:00:00Z");
        check("*/15 * * * *", "Asia/Kolkata", "2026-11-21T10:01:00Z", "2026-11-21T10:15:00Z");
    }

    #[test]
    fn clocks_that_change_neither_stop_nor_repeat_a_daily_run() {
        let daily = Timetable::parse("30 2 * * *", "Europe/Berlin").unwrap();
        for start in ["2026-03-27T12:00:00Z", "2026-10-23T12:00:00Z"] {
            let mut time = at(start);
            for _ in 0..4 {
                let next = daily.next(time).unwrap();
                let hours = next.since_ms(time) as f64 / 3_600_000.0;
                assert!((10.0..=26.0).contains(&hours), "{hours} hours");
                time = next;
            }
        }
    }

    #[test]
    fn what_is_refused() {
        for (cron, timezone, field) in [
            ("* * * *", "UTC", "cron"),
            ("* * * * * *", "UTC", "cron"),
            ("@daily", "UTC", "cron"),
            ("61 * * * *", "UTC", "cron"),
            ("", "UTC", "cron"),
            ("* * * * *", "Mars/Olympus", "timezone"),
            ("* * * * *", "", "timezone"),
        ] {
            assert_eq!(Timetable::parse(cron, timezone).unwrap_err().0, field, "{cron:?} {timezone:?}");
        }
        assert_eq!(Timetable::parse(&"*".repeat(257), "UTC").unwrap_err().0, "cron");
        assert_eq!(Timetable::parse("0 0 31 2 *", "UTC").map(|t| t.next(at("2026-01-01T00:00:00Z"))).unwrap(), None);
    }
}
