use std::io::Write;

use super::*;

#[test]
fn a_log_that_is_written_on_and_on_stays_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("orders-0.log");
    let mut writer = open_log(&path).unwrap();
    let line = vec![b'x'; 1 << 20];
    for written in 1..=20u64 {
        writer.write_all(&line).unwrap();
        put_aside(&path).unwrap();
        let size = fs::metadata(&path).unwrap().len();
        assert!(size <= LOG_BYTES_MAX, "{size} bytes after {written} MiB");
    }
    assert_eq!(fs::metadata(&path).unwrap().len(), 2 << 20, "what came after the second cut");
    assert_eq!(fs::metadata(path.with_extension("log.old")).unwrap().len(), LOG_BYTES_MAX + (1 << 20));
}
