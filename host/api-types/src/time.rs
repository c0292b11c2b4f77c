//! Times on the wire: RFC 3339, UTC, milliseconds.

use std::fmt;
use std::str::FromStr;

use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::{Serialize, Serializer};
use utoipa::ToSchema;

/// Bytes of a written time: `2026-11-21T10:18:27.123Z`.
pub const TEXT_BYTES: usize = 24;
/// The last millisecond that [`TEXT_BYTES`] can tell: the end of the year 9999.
pub const MS_MAX: u64 = 253_402_300_799_999;

/// Milliseconds since 1970-01-01 UTC, written as RFC 3339.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, ToSchema)]
#[schema(value_type = String, format = DateTime, example = "2026-11-21T10:18:27.123Z")]
pub struct Time(pub u64);

/// The text is no RFC 3339 time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an RFC 3339 time like 2026-11-21T10:18:27.123Z")]
pub struct NotTime;

impl Time {
    /// The text. A time past the year 9999 is written as its end.
    #[must_use]
    pub fn text(self) -> [u8; TEXT_BYTES] {
        let ms = self.0.min(MS_MAX);
        let (days, in_day) = (ms / 86_400_000, ms % 86_400_000);
        let (year, month, day) = civil(days);
        let (seconds, millis) = (in_day / 1_000, in_day % 1_000);
        let mut out = *b"0000-00-00T00:00:00.000Z";
        digits(&mut out[0..4], year);
        digits(&mut out[5..7], month);
        digits(&mut out[8..10], day);
        digits(&mut out[11..13], seconds / 3_600);
        digits(&mut out[14..16], seconds / 60 % 60);
        digits(&mut out[17..19], seconds % 60);
        digits(&mut out[20..23], millis);
        out
    }
}

fn digits(out: &mut [u8], mut value: u64) {
    for place in out.iter_mut().rev() {
        *place = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

/// Year, month and day of a day since 1970: Howard Hinnant, "chrono-compatible low-level date algorithms", days ≥ 0.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

impl FromStr for Time {
    type Err = NotTime;

    /// Takes any offset and precision; cuts to milliseconds, and times before 1970 to its start.
    fn from_str(text: &str) -> Result<Self, NotTime> {
        if text.as_bytes().get(10) != Some(&b'T') || text.contains('[') {
            return Err(NotTime);
        }
        let parsed: jiff::Timestamp = text.parse().map_err(|_| NotTime)?;
        Ok(Self(u64::try_from(parsed.as_millisecond()).unwrap_or(0)))
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.text()).map_err(|_| fmt::Error)?)
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Time;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an RFC 3339 time")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Time, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_what_jiff_writes() {
        // jiff ends some hours before the year 9999 does.
        let jiff_max = jiff::Timestamp::MAX.as_second() as u64 * 1_000;
        let mut ms = 0_u64;
        while ms < jiff_max {
            let jiff = jiff::Timestamp::from_millisecond(ms as i64).expect("in range");
            assert_eq!(Time(ms).to_string(), format!("{jiff:.3}"), "{ms}");
            assert_eq!(Time(ms).to_string().parse(), Ok(Time(ms)));
            ms += 86_400_000 * 13 + 12_345_679;
        }
        for ms in [951_782_400_000, 951_868_799_999, 1_709_164_800_000, jiff_max] {
            let jiff = jiff::Timestamp::from_millisecond(ms as i64).expect("in range");
            assert_eq!(Time(ms).to_string(), format!("{jiff:.3}"));
        }
        assert_eq!(Time(u64::MAX).to_string(), "9999-12-31T23:59:59.999Z");
    }

    #[test]
    fn reads_rfc_3339() {
        for (text, expected) in [
            ("1970-01-01T00:00:01Z", Ok(Time(1_000))),
            ("1970-01-01T02:00:01.0019+02:00", Ok(Time(1_001))),
            ("1960-01-01T00:00:00Z", Ok(Time(0))),
            ("1970-01-01 00:00:01Z", Err(NotTime)),
            ("1970-01-01T00:00:01", Err(NotTime)),
            ("1970-01-01", Err(NotTime)),
            ("yesterday", Err(NotTime)),
            ("", Err(NotTime)),
        ] {
            assert_eq!(text.parse(), expected, "{text}");
        }
    }
}
