//! The notations of single values: durations, sizes, lists in one string.

use serde_json::Value;
use std::time::Duration;
use toml::de::DeValue;

/// Reads `"250ms"`, `"5s"`, `"1.5s"`, `"1m"`, `"2h"`. Up to ten years; `None` when it is not a duration with a unit.
pub fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = split_unit(text)?;
    let seconds = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        "d" => 86_400.0,
        _ => return None,
    };
    let value = number.parse::<f64>().ok()? * seconds;
    (value <= 10.0 * 366.0 * 86_400.0).then(|| Duration::from_secs_f64(value))
}

/// Reads `"32MiB"`, `"8MB"`, `"512KiB"`, `"100B"`; `None` when it is not a size with a unit.
pub fn size(text: &str) -> Option<u64> {
    let (number, unit) = split_unit(text)?;
    let bytes: u64 = match unit {
        "B" => 1,
        "KB" | "kB" => 1000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(bytes)
}

/// The parts of a comma-separated list, trimmed, without empty ones.
pub fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty())
}

/// A value of TOML as JSON; `None` for a date, which JSON has not, and for a number that it cannot say.
pub fn json(value: &DeValue<'_>) -> Option<Value> {
    Some(match value {
        DeValue::String(text) => Value::from(text.as_ref()),
        DeValue::Integer(integer) => i64::from_str_radix(integer.as_str(), integer.radix()).ok()?.into(),
        DeValue::Float(float) => serde_json::Number::from_f64(float.as_str().parse().ok()?)?.into(),
        DeValue::Boolean(yes) => Value::from(*yes),
        DeValue::Array(items) => items.iter().map(|item| json(item.get_ref())).collect::<Option<Vec<_>>>()?.into(),
        DeValue::Table(table) => {
            let entry = |(name, value): (&toml::Spanned<toml::de::DeString<'_>>, &toml::Spanned<DeValue<'_>>)| {
                Some((name.get_ref().to_string(), json(value.get_ref())?))
            };
            Value::Object(table.iter().map(entry).collect::<Option<_>>()?)
        }
        DeValue::Datetime(_) => return None,
    })
}

/// The number and the unit behind it.
fn split_unit(text: &str) -> Option<(&str, &str)> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    Some((&text[..end], text[end..].trim_start()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit() {
        for (text, ms) in [
            ("250ms", 250),
            ("5s", 5000),
            ("1.5s", 1500),
            ("1m", 60_000),
            ("2h", 7_200_000),
            (" 3 s ", 3000),
            ("0s", 0),
        ] {
            assert_eq!(duration(text), Some(Duration::from_millis(ms)), "{text}");
        }
        for bad in ["", "5", "s", "-1s", "5 parsecs", "1e9s", "99999999999h", "1..2s", "∞s"] {
            assert_eq!(duration(bad), None, "{bad}");
        }
    }

    #[test]
    fn sizes_need_a_unit() {
        for (text, bytes) in [("32MiB", 33_554_432), ("8MB", 8_000_000), ("512 KiB", 524_288), ("7B", 7)] {
            assert_eq!(size(text), Some(bytes), "{text}");
        }
        for bad in ["", "32", "MiB", "1.5MiB", "99999999999999999999B", "18446744073709551615KiB", "5 MiBs"] {
            assert_eq!(size(bad), None, "{bad}");
        }
    }

    #[test]
    fn lists_drop_what_is_empty() {
        assert_eq!(list(" a, b,,c ,").collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!(list(" ,").count(), 0);
    }
}
