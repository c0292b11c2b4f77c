//! Numbers on the wire: decimal strings without a bound, and integers that may be written `17.0`.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::{Serialize, Serializer};
use utoipa::ToSchema;

/// A number without a bound, as a string: `^(0|[1-9][0-9]{0,19})$`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, ToSchema)]
#[schema(value_type = String, pattern = "^(0|[1-9][0-9]{0,19})$", example = "42")]
pub struct Decimal(pub u64);

/// The text is no decimal number as [`Decimal`] writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a decimal number of at most 20 digits, without sign or leading zeros")]
pub struct NotDecimal;

impl FromStr for Decimal {
    type Err = NotDecimal;

    /// Unlike `u64`'s own, takes no `+` and no leading zero.
    fn from_str(text: &str) -> Result<Self, NotDecimal> {
        let plain = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
        if !plain {
            return Err(NotDecimal);
        }
        text.parse().map(Self).map_err(|_| NotDecimal)
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<u64> for Decimal {
    fn from(value: u64) -> Self {
        Self(value)
    }
}

impl Serialize for Decimal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Decimal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Decimal;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a decimal number as a string")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Decimal, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// Greatest integer that a JSON number carries exactly in every language.
const EXACT_FLOAT_MAX: f64 = 9_007_199_254_740_992.0;

struct Whole<T>(PhantomData<T>);

impl<T: TryFrom<u64>> Visitor<'_> for Whole<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match size_of::<T>() {
            1 => f.write_str("a whole number from 0 to 255"),
            2 => f.write_str("a whole number from 0 to 65535"),
            4 => f.write_str("a whole number from 0 to 4294967295"),
            _ => f.write_str("a whole number, 0 or more"),
        }
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<T, E> {
        T::try_from(value).map_err(|_| E::invalid_value(de::Unexpected::Unsigned(value), &self))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<T, E> {
        let whole = u64::try_from(value).map_err(|_| E::invalid_value(de::Unexpected::Signed(value), &self))?;
        self.visit_u64(whole)
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<T, E> {
        if value.fract() == 0.0 && (0.0..=EXACT_FLOAT_MAX).contains(&value) {
            self.visit_u64(value as u64)
        } else {
            Err(E::invalid_value(de::Unexpected::Float(value), &self))
        }
    }
}

/// Reads an integer; `17.0` is one, `-1` and `1.5` are none.
///
/// # Errors
/// Not a whole number of that size.
pub fn whole<'de, T: TryFrom<u64>, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    deserializer.deserialize_any(Whole(PhantomData))
}

/// Reads an integer as [`whole`]; null is absent.
///
/// # Errors
/// Not a whole number of that size.
pub fn optional<'de, T: TryFrom<u64>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    struct Maybe<T>(PhantomData<T>);
    impl<'de, T: TryFrom<u64>> Visitor<'de> for Maybe<T> {
        type Value = Option<T>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            Whole::<T>(PhantomData).expecting(f)
        }
        fn visit_unit<E>(self) -> Result<Option<T>, E> {
            Ok(None)
        }
        fn visit_u64<E: de::Error>(self, value: u64) -> Result<Option<T>, E> {
            Whole(PhantomData).visit_u64(value).map(Some)
        }
        fn visit_i64<E: de::Error>(self, value: i64) -> Result<Option<T>, E> {
            Whole(PhantomData).visit_i64(value).map(Some)
        }
        fn visit_f64<E: de::Error>(self, value: f64) -> Result<Option<T>, E> {
            Whole(PhantomData).visit_f64(value).map(Some)
        }
    }
    deserializer.deserialize_any(Maybe(PhantomData))
}

/// Reads a list of integers as [`whole`]; null is absent.
///
/// # Errors
/// Not a list of whole numbers of that size.
pub fn optional_list<'de, T: TryFrom<u64>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<T>>, D::Error> {
    struct One<T>(T);
    impl<'de, T: TryFrom<u64>> Deserialize<'de> for One<T> {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            whole(deserializer).map(Self)
        }
    }
    let list = Option::<Vec<One<T>>>::deserialize(deserializer)?;
    Ok(list.map(|list| list.into_iter().map(|one| one.0).collect()))
}
