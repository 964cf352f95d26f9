use super::*;

#[test]
fn what_is_sealed_opens_with_the_same_key_only() {
    let sealed = seal(&[7; 32], b"hello");
    assert_eq!(open(&[7; 32], &sealed).unwrap(), b"hello");
    assert!(open(&[8; 32], &sealed).is_none());
}

#[test]
fn a_changed_or_short_datagram_does_not_open() {
    let sealed = seal(&[7; 32], b"hello");
    for at in 0..sealed.len() {
        let mut changed = sealed.clone();
        changed[at] ^= 1;
        assert!(open(&[7; 32], &changed).is_none(), "byte {at}");
        assert!(open(&[7; 32], &sealed[..at]).is_none(), "{at} bytes");
    }
}

#[test]
fn the_same_message_is_never_sealed_to_the_same_bytes() {
    assert_ne!(seal(&[7; 32], b"hello"), seal(&[7; 32], b"hello"));
}
