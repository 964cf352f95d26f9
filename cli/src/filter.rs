//! Which messages `fulmar consume` prints.
//!
//! Owns the flags that say so. All messages are read for that: brokers keep no index of keys or headers.

use clap::Args;
use fulmar_client::Message;
use memchr::memmem;

/// See the module. A message is printed that all of it fits.
#[derive(Debug, Args)]
pub(crate) struct Filter {
    /// Only messages with this key
    #[arg(short, long)]
    key: Option<String>,
    /// Only messages with this header, whatever its value without one; may be repeated
    #[arg(short = 'H', long = "header", value_name = "NAME[=VALUE]")]
    headers: Vec<String>,
    /// Only messages whose value has this text in it
    #[arg(long, value_name = "TEXT")]
    contains: Option<String>,
}

impl Filter {
    /// Whether it fits.
    pub(crate) fn takes(&self, message: &Message) -> bool {
        let has = |wanted: &String| {
            let (name, value) = wanted.split_once('=').map_or((wanted.as_str(), None), |(n, v)| (n, Some(v)));
            let is_it = |given: &[u8]| value.is_none_or(|value| given == value.as_bytes());
            message.headers.iter().any(|header| header.name == name && is_it(&header.value))
        };
        self.key.as_ref().is_none_or(|key| message.key.as_deref() == Some(key.as_bytes()))
            && self.headers.iter().all(has)
            && self
                .contains
                .as_ref()
                .is_none_or(|text| memmem::find(&message.value, text.as_bytes()).is_some())
    }
}
