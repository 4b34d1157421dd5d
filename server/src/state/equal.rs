//! Equality of JSON values, as RFC 6902 §4.6 defines it for `test`: two numbers are equal if they are numerically equal.

use std::sync::Arc;

use serde_json::Number;

use super::tree::{Item, Json};

/// Returns whether two values are equal. Numbers are compared by value: `1`, `1.0` and `1e0` are equal.
pub(super) fn equal(one: &Json, other: &Json) -> bool {
    match (one, other) {
        (Json::Null, Json::Null) => true,
        (Json::Bool(one), Json::Bool(other)) => one == other,
        (Json::Number(one), Json::Number(other)) => same_number(one, other),
        (Json::Text(one), Json::Text(other)) => one == other,
        (Json::Array(ones), Json::Array(others)) => {
            let mut pairs = ones.iter().zip(others.iter());
            Arc::ptr_eq(ones, others)
                || ones.length() == others.length() && pairs.all(|(one, other)| equal(one, other))
        }
        (Json::Object(ones), Json::Object(others)) => {
            // Both objects are sorted by key.
            let mut pairs = ones.iter().zip(others.iter());
            Arc::ptr_eq(ones, others)
                || ones.length() == others.length()
                    && pairs.all(|(one, other)| one.key() == other.key() && equal(one.value(), other.value()))
        }
        _ => false,
    }
}

fn same_number(one: &Number, other: &Number) -> bool {
    match (integer(one), integer(other)) {
        (Some(one), Some(other)) => one == other,
        // An integer never equals a number that has a fraction, or that lies outside the range of exact integers.
        (Some(_), None) | (None, Some(_)) => false,
        (None, None) => one.as_f64() == other.as_f64(),
    }
}

/// Returns the number as an integer, if it is one. Integers up to 64 bits are compared with all digits: as doubles,
/// 9007199254740993 and 9007199254740992 would be equal.
fn integer(number: &Number) -> Option<i128> {
    /// 2^64: the parser reads integers from here on as doubles.
    const LIMIT: f64 = 18_446_744_073_709_551_616.0;
    if let Some(integer) = number.as_u64() {
        return Some(integer.into());
    }
    if let Some(integer) = number.as_i64() {
        return Some(integer.into());
    }
    let double = number.as_f64()?;
    // Below the limit, and without a fraction, the conversion is exact.
    #[allow(clippy::cast_possible_truncation)]
    (double.fract() == 0.0 && double.abs() < LIMIT).then_some(double as i128)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_equal_when_they_are_numerically_equal_at_every_depth() {
        for (one, other, expected) in [
            ("1", "1.0", true),
            ("1", "1e0", true),
            ("100", "1e2", true),
            ("1", "1.5", false),
            ("1", "-1", false),
            ("0", "-0.0", true),
            ("-0", "0.0", true),
            ("-3", "-3.0", true),
            ("9007199254740992", "9007199254740993", false),
            ("9007199254740992", "9007199254740992.0", true),
            ("9007199254740993", "9007199254740992.0", false),
            ("18446744073709551615", "18446744073709551615", true),
            ("18446744073709551615", "18446744073709551614", false),
            ("18446744073709551615", "18446744073709551616", false),
            ("18446744073709551615", "1.8446744073709552e19", false),
            ("18446744073709551616", "1.8446744073709552e19", true),
            ("-9223372036854775808", "-9223372036854775808.0", true),
            ("9223372036854775807", "9223372036854775808.0", false),
            ("1e300", "1.0e300", true),
            ("0.1", "0.10", true),
            ("0.9999999999999999", "1", false),
            ("1", "\"1\"", false),
            ("1", "true", false),
            ("0", "null", false),
        ] {
            let read = |text: &str| serde_json::from_str::<Json>(text).unwrap();
            for shape in [
                |it: &str| it.to_owned(),
                |it: &str| format!("[0, [{it}]]"),
                |it: &str| format!(r#"{{"a": {{"b": {it}, "c": 1}}}}"#),
            ] {
                let (one, other) = (read(&shape(one)), read(&shape(other)));
                assert_eq!(equal(&one, &other), expected, "{one} and {other}");
                assert_eq!(equal(&other, &one), expected, "{other} and {one}");
            }
        }
        let read = |text: &str| serde_json::from_str::<Json>(text).unwrap();
        assert!(!equal(&read("[1]"), &read("[1, 1.0]")));
        assert!(!equal(&read(r#"{"a": 1}"#), &read(r#"{"b": 1.0}"#)));
        assert!(!equal(&read(r#"{"a": 1}"#), &read(r#"{"a": 1.0, "b": 1}"#)));
    }
}
