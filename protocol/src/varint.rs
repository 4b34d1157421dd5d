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
    for (i, &byte) in input.iter().enumerate().take(5) {
        if i == 4 && byte > 0x0f {
            return None;
        }
        value |= u32::from(byte & 0x7f) << (7 * i);
        if byte < 0x80 {
            *input = &input[i + 1..];
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips_at_every_length() {
        for value in [0, 1, 127, 128, 16_383, 16_384, 1 << 21, 1 << 28, u32::MAX] {
            let mut out = vec![];
            write(&mut out, value);
            let mut rest = out.as_slice();
            assert_eq!(read(&mut rest), Some(value));
            assert!(rest.is_empty());
        }
    }

    #[test]
    fn refuses_what_is_cut_short_or_too_large() {
        for bytes in
            [&[][..], &[0x80], &[0xff, 0xff, 0xff, 0xff], &[0xff, 0xff, 0xff, 0xff, 0x10], &[0x80; 6]]
        {
            assert_eq!(read(&mut &*bytes), None, "{bytes:x?}");
        }
    }
}
