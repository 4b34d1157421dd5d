//! Unsigned integers of one to five bytes, seven bits a byte, least significant first (§2.1).

/// Appends `value` to `out`.
pub(crate) fn write(out: &mut Vec<u8>, mut value: u32) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Takes one integer off the front of `input`; `None` if it is cut short or does not fit 32 bits.
pub(crate) fn read(input: &mut &[u8]) -> Option<u32> {
    let mut value = 0;
    let mut rest = *input;
    for i in 0..5 {
        let (&byte, tail) = rest.split_first()?;
        rest = tail;
        if i == 4 && byte > 0x0f {
            return None;
        }
        value |= u32::from(byte & 0x7f) << (7 * i);
        if byte < 0x80 {
            *input = rest;
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::Value;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    /// One list of the encodings that every implementation can replay (docs/protocol.md §12).
    pub(crate) fn vectors(list: &str) -> Vec<Value> {
        let all: Value = serde_json::from_str(include_str!("../../tests/vectors/frames.json")).expect("JSON");
        all[list].as_array().expect("a list").clone()
    }

    pub(crate) fn unhex(hex: &Value) -> Vec<u8> {
        data_encoding::HEXLOWER.decode(hex.as_str().expect("a string").as_bytes()).expect("hexadecimal")
    }

    #[test]
    fn integers_are_those_of_the_vectors() {
        for vector in vectors("integers") {
            let value = vector["value"].as_u64().expect("a number") as u32;
            let mut out = vec![];
            write(&mut out, value);
            assert_eq!(out, unhex(&vector["hex"]), "{vector}");
            let mut rest = out.as_slice();
            assert_eq!(read(&mut rest), Some(value), "{vector}");
            assert!(rest.is_empty(), "{vector}");
        }
    }

    #[test]
    fn what_is_longer_than_it_need_be_is_read() {
        for vector in vectors("long_integers") {
            let bytes = unhex(&vector["hex"]);
            let mut rest = bytes.as_slice();
            assert_eq!(read(&mut rest).map(u64::from), vector["value"].as_u64(), "{vector}");
            assert!(rest.is_empty(), "{vector}");
        }
    }

    #[test]
    fn what_is_cut_short_or_too_large_is_no_integer() {
        for vector in vectors("bad_integers") {
            assert_eq!(read(&mut unhex(&vector).as_slice()), None, "{vector}");
        }
    }
}
