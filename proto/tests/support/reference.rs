//! The reference page of what programs meet, made from the descriptors that reflection serves, which carry the comments of the
//! `.proto` files.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use fulmar_proto::v1::DESCRIPTORS;
use prost::Message as _;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet,
    MethodDescriptorProto, ServiceDescriptorProto,
};

// Numbers of fields in google/protobuf/descriptor.proto: a comment's place is a path of them.
const MESSAGES: i32 = 4;
const ENUMS: i32 = 5;
const SERVICES: i32 = 6;
const METHODS: i32 = 2;
const FIELDS: i32 = 2;
const VALUES: i32 = 2;

/// Who wants the file's head rather than its first message reads the `.proto`.
const HEAD: &str = "# gRPC\n\n\
    Every service of port 50051, with every message, as `proto/fulmar/v1` has them; made by `cargo run -p fulmar-proto --example reference`.\n\
    How to begin: [programs.md](programs.md).\n";

type Comments = BTreeMap<Vec<i32>, String>;

/// The page, as Markdown.
pub(crate) fn page() -> String {
    let set = FileDescriptorSet::decode(DESCRIPTORS).expect("the build script wrote it");
    let mut page = HEAD.to_owned();
    let ours = set.file.iter().filter(|file| file.package() == "fulmar.v1");
    for file in ours {
        let comments = comments(file);
        for (at, service) in (0..).zip(&file.service) {
            add_service(&mut page, service, &[SERVICES, at], &comments);
        }
        for (at, message) in (0..).zip(&file.message_type) {
            add_message(&mut page, message, &[MESSAGES, at], &comments);
        }
        for (at, values) in (0..).zip(&file.enum_type) {
            add_enum(&mut page, values, &[ENUMS, at], &comments);
        }
    }
    page
}

fn comments(file: &FileDescriptorProto) -> Comments {
    let places = file.source_code_info.iter().flat_map(|info| &info.location);
    places.map(|place| (place.path.clone(), place.leading_comments().trim().to_owned())).collect()
}

/// What is said of it. There is nothing that says nothing.
fn comment<'a>(comments: &'a Comments, path: &[i32], name: &str) -> &'a str {
    let said = comments.get(path).map_or("", String::as_str);
    assert!(!said.is_empty(), "{name} has no comment");
    said
}

/// In one line, for a table.
fn cell(comments: &Comments, path: &[i32], name: &str) -> String {
    let said = comment(comments, path, name);
    said.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

/// Lines of a comment, each without the blank that follows `//`.
fn paragraphs(said: &str) -> String {
    said.lines().map(|line| line.strip_prefix(' ').unwrap_or(line)).collect::<Vec<_>>().join("\n")
}

fn below(path: &[i32], kind: i32, at: i32) -> Vec<i32> {
    [path, &[kind, at]].concat()
}

fn add_service(page: &mut String, service: &ServiceDescriptorProto, path: &[i32], comments: &Comments) {
    let name = service.name();
    add(page, &format!("\n## `{name}`\n\n{}\n", paragraphs(comment(comments, path, name))));
    for (at, method) in (0..).zip(&service.method) {
        let said = paragraphs(comment(comments, &below(path, METHODS, at), method.name()));
        add(page, &format!("\n### `{name}/{}`\n\n{}\n\n{said}\n", method.name(), signature(method)));
    }
}

fn signature(method: &MethodDescriptorProto) -> String {
    let one = |name: &str, streams: bool| {
        let stream = if streams { "stream of " } else { "" };
        format!("{stream}{}", link(name))
    };
    let asked = one(method.input_type(), method.client_streaming());
    format!("{asked} → {}", one(method.output_type(), method.server_streaming()))
}

/// `.fulmar.v1.Name` of this page; a type of others has no place here.
fn link(name: &str) -> String {
    match name.strip_prefix(".fulmar.v1.") {
        Some(own) => format!("[`{own}`](#{})", own.to_lowercase()),
        None => format!("`{}`", name.trim_start_matches('.')),
    }
}

fn add_message(page: &mut String, message: &DescriptorProto, path: &[i32], comments: &Comments) {
    let name = message.name();
    assert!(
        message.nested_type.is_empty() && message.enum_type.is_empty(),
        "{name}: nested types have no place here yet"
    );
    add(page, &format!("\n### `{name}`\n\n{}\n", paragraphs(comment(comments, path, name))));
    if message.field.is_empty() {
        return;
    }
    add(page, "\n| field | type | |\n| --- | --- | --- |\n");
    for (at, field) in (0..).zip(&message.field) {
        let said = cell(comments, &below(path, FIELDS, at), &format!("{name}.{}", field.name()));
        let kind = kind(message, field);
        add(page, &format!("| `{}` ({}) | {kind} | {said} |\n", field.name(), field.number()));
    }
}

fn kind(message: &DescriptorProto, field: &FieldDescriptorProto) -> String {
    let name = match field.r#type() {
        Type::Message | Type::Enum => link(field.type_name()),
        scalar => scalar.as_str_name().trim_start_matches("TYPE_").to_lowercase(),
    };
    // An `optional` scalar is a oneof of its own for the compiler.
    let choice = field.oneof_index.filter(|_| !field.proto3_optional());
    let choice = choice.and_then(|at| message.oneof_decl.get(usize::try_from(at).ok()?));
    match (field.label(), choice) {
        (Label::Repeated, _) => format!("list of {name}"),
        (_, Some(choice)) => format!("{name}, one of `{}`", choice.name()),
        (_, None) if field.proto3_optional() => format!("{name}, optional"),
        (_, None) => name,
    }
}

fn add_enum(page: &mut String, values: &EnumDescriptorProto, path: &[i32], comments: &Comments) {
    let name = values.name();
    add(
        page,
        &format!(
            "\n### `{name}`\n\n{}\n\n| value | |\n| --- | --- |\n",
            paragraphs(comment(comments, path, name))
        ),
    );
    for (at, value) in (0..).zip(&values.value) {
        let said = cell(comments, &below(path, VALUES, at), &format!("{name}.{}", value.name()));
        add(page, &format!("| `{}` ({}) | {said} |\n", value.name(), value.number()));
    }
}

fn add(page: &mut String, text: &str) {
    write!(page, "{text}").expect("a string takes everything");
}
