//! The binary batch format: `u32 n · u32 m · m bytes meta · payload`, n = 4 + m + payload length, little-endian.

/// Appends one message; `meta` is the JSON of a message object without data.
///
/// # Panics
/// If meta and payload together do not fit 32 bits.
pub fn push_frame(frames: &mut Vec<u8>, meta: &[u8], payload: &[u8]) {
    let length = u32::try_from(4 + meta.len() + payload.len()).expect("a frame is shorter than 4 GiB");
    frames.extend_from_slice(&length.to_le_bytes());
    frames.extend_from_slice(&(meta.len() as u32).to_le_bytes());
    frames.extend_from_slice(meta);
    frames.extend_from_slice(payload);
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_lengths_are_those_of_the_contract() {
        let mut frames = Vec::new();
        super::push_frame(&mut frames, b"{}", b"abc");
        assert_eq!(frames, b"\x09\0\0\0\x02\0\0\0{}abc");
    }
}
