use super::partition_of;

#[test]
fn the_hash_is_part_of_the_protocol() {
    // XXH3-64 of the empty input, as its specification gives it.
    assert_eq!(u64::from(partition_of(b"", 1000)), 0x2D06_8005_38D3_94C2u64 % 1000);
}

#[test]
fn equal_keys_meet_and_every_partition_is_reached() {
    let mut reached = [false; 12];
    for key in 0..1000u32 {
        let partition = partition_of(&key.to_be_bytes(), 12);
        assert_eq!(partition, partition_of(&key.to_be_bytes(), 12));
        reached[partition as usize] = true;
    }
    assert!(reached.iter().all(|reached| *reached));
}
