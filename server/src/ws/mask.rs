//! Masking of the payloads that a client sends (RFC 6455 §5.3).

/// Masks or unmasks bytes that lie at an offset of a payload (RFC 6455 §5.3).
pub(crate) fn mask(bytes: &mut [u8], key: [u8; 4], offset: usize) {
    if key == [0; 4] {
        return;
    }
    let key: [u8; 8] = std::array::from_fn(|at| key[(offset + at) % 4]);
    let wide = u64::from_ne_bytes(key);
    let mut words = bytes.chunks_exact_mut(8);
    for word in &mut words {
        if let Ok(bytes) = <[u8; 8]>::try_from(&*word) {
            word.copy_from_slice(&(u64::from_ne_bytes(bytes) ^ wide).to_ne_bytes());
        }
    }
    for (byte, key) in words.into_remainder().iter_mut().zip(key) {
        *byte ^= key;
    }
}
