//! Pages of the partition table, so that a broker starts without an operator. Key: the page's number.

use redb::TableDefinition;

use super::super::bytes::{Malformed, Reader, Writer};
use super::super::{Page, op};

pub(crate) const TABLE: TableDefinition<'static, u32, &'static [u8]> = TableDefinition::new("pages");

pub(crate) fn encode(page: &Page) -> Vec<u8> {
    let mut bytes = Vec::new();
    op::encode_page(page, &mut Writer(&mut bytes));
    bytes
}

pub(crate) fn decode(number: u32, bytes: &[u8]) -> Result<Page, Malformed> {
    let mut from = Reader::new(bytes);
    let page = op::decode_page(number, &mut from)?;
    from.end("page's end")?;
    Ok(page)
}
