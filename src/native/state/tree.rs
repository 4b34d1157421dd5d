//! JSON values: comparison, and members by name.

use json_patch::jsonptr::Pointer;
use serde_json::{Number, Value};

/// Integers up to this one are the same number as a double.
const MAX_EXACT: f64 = 9_007_199_254_740_992.0;

/// Whether two values are the same JSON. `1` and `1.0` are one number.
pub(super) fn is_same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => is_same_number(a, b),
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_same(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len()
                && a.iter().all(|(key, value)| b.get(key).is_some_and(|other| is_same(value, other)))
        }
        _ => a == b,
    }
}

/// The same for values that may be absent.
pub(super) fn is_same_at(a: Option<&Value>, b: Option<&Value>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => is_same(a, b),
        (None, None) => true,
        _ => false,
    }
}

fn is_same_number(a: &Number, b: &Number) -> bool {
    a == b || ((a.is_f64() || b.is_f64()) && a.as_f64() == b.as_f64())
}

/// Returns a text that is equal for equal values, with members in any order.
pub(super) fn canonical(value: &Value) -> String {
    let mut text = String::new();
    write_canonical(value, &mut text);
    text
}

fn write_canonical(value: &Value, text: &mut String) {
    match value {
        Value::Array(elements) => {
            text.push('[');
            for element in elements {
                write_canonical(element, text);
                text.push(',');
            }
            text.push(']');
        }
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_unstable_by_key(|(key, _)| *key);
            text.push('{');
            for (key, value) in members {
                text.push_str(&Value::from(key.as_str()).to_string());
                text.push(':');
                write_canonical(value, text);
                text.push(',');
            }
            text.push('}');
        }
        Value::Number(number) => {
            match number.as_f64().filter(|double| number.is_f64() && double.fract() == 0.0) {
                // Without a sign for zero, as the integer.
                Some(double) if double.abs() <= MAX_EXACT => text.push_str(&format!("{:.0}", double + 0.0)),
                _ => text.push_str(&number.to_string()),
            }
        }
        _ => text.push_str(&value.to_string()),
    }
}

/// Returns the member or element with a name.
pub(super) fn member<'a>(value: &'a Value, key: &str) -> Option<&'a Value> {
    match value {
        Value::Object(members) => members.get(key),
        Value::Array(elements) => elements.get(key.parse::<usize>().ok()?),
        _ => None,
    }
}

/// Returns the value at a pointer.
pub(super) fn value_at<'a>(value: &'a Value, path: &Pointer) -> Option<&'a Value> {
    value.pointer(path.as_str())
}

/// Returns how many UTF-16 code units a value has as JSON: pages measure the same.
pub(super) fn size_of(value: &impl serde::Serialize) -> usize {
    serde_json::to_string(value).map_or(0, |text| text.encode_utf16().count())
}
