//! The targets.

mod batch;
mod grpc;
mod pattern;
mod peers;
mod table;

use fulmar_broker::gossip;
use fulmar_broker::serve::{http, tcp};
use fulmar_broker::storage;

use super::Target;

/// All of them: first what programs send, then what brokers and operators do, then what disks give back.
pub const TARGETS: [Target; 9] = [
    Target { name: "batch", written_by: "producers", run: batch::run, examples: batch::examples },
    Target { name: "tcp", written_by: "programs", run: tcp::fuzzed::frame, examples: frames_of_the_page },
    Target { name: "http", written_by: "programs", run: http::fuzzed::request, examples: requests },
    Target { name: "grpc", written_by: "programs", run: grpc::run, examples: grpc::examples },
    Target { name: "pattern", written_by: "programs", run: pattern::run, examples: pattern::examples },
    Target { name: "peers", written_by: "brokers", run: peers::run, examples: peers::examples },
    Target { name: "gossip", written_by: "brokers", run: gossip::fuzzed::datagram, examples: datagrams },
    Target { name: "table", written_by: "operators, people", run: table::run, examples: table::examples },
    Target {
        name: "stored",
        written_by: "disks",
        run: storage::fuzzed::stored,
        examples: storage::fuzzed::examples,
    },
];

/// Those in hexadecimal of docs/protocol.md.
fn frames_of_the_page() -> Vec<Vec<u8>> {
    let page = include_str!("../../../docs/protocol.md");
    let blocks =
        page.split("```hex ").skip(1).filter_map(|block| block.split_once('\n')?.1.split_once("```"));
    let byte = |digits| u8::from_str_radix(digits, 16).expect("the page's tests read it, too");
    blocks.map(|(hex, _)| hex.split_whitespace().map(byte).collect()).collect()
}

fn requests() -> Vec<Vec<u8>> {
    let texts = [
        "qtopic=orders&msg=hello%20world&key=a+b",
        "qoffset=earliest&limit=10&wait=1000&partition=3",
        "qoffset=18446744073709551615&topic=%C3%A9",
        r#"j{"value":"hello","key":"k","headers":[{"name":"a","value_base64":"AAE="}],"timestamp_ms":-1,"partition":2}"#,
        r#"j{"messages":[{"value_json":{"a":[1,2.5e3,null,"\u00e9"]}},{"value_base64":"aGk="}]}"#,
    ];
    texts.map(|text| text.as_bytes().to_vec()).to_vec()
}

/// As chitchat begins each: magic number, version, kind.
fn datagrams() -> Vec<Vec<u8>> {
    (0..4_u8).map(|kind| vec![0x53, 0xb0, 0, kind, 0, 0, 0, 0]).collect()
}
