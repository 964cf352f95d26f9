//! Claims about the pass through all logs.

use fulmar_core::id::TopicId;

use super::*;

#[test]
fn a_pass_goes_on_where_retention_has_put_the_start() {
    let key = PartitionKey { topic: TopicId(1), partition: 0 };
    let overtaken = ReadError::BelowStart { key, from: Offset(3), log_start: Offset(9) };
    assert_eq!(beyond(&overtaken), Some(Offset(9)));
    assert_eq!(beyond(&ReadError::Unknown(key)), None);
}
