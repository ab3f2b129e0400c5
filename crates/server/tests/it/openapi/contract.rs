//! What an operation promises, in a form that compares: parameters, members of the request, statuses,
//! members of each answer. Read from OpenAPI 3 and from the Swagger of 2015.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

/// Members by their path, such as `devices[].device_id`, each with its type and whether it has to be
/// there.
pub type Members = BTreeMap<String, (String, bool)>;

#[derive(Debug, Default, PartialEq)]
pub struct Contract {
    /// "none", "token" or "optional".
    pub security: &'static str,
    /// By place and name; whether it has to be there.
    pub parameters: BTreeMap<String, bool>,
    pub request: Option<Members>,
    pub responses: BTreeMap<String, Members>,
}

/// All contracts of a document without `$ref`, by method and path, the path behind `base`.
pub fn contracts(document: &Value, base: &str) -> BTreeMap<String, Contract> {
    let mut contracts = BTreeMap::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("a path item") {
            if ["get", "post", "put", "delete"].contains(&method.as_str()) {
                let name = format!("{} {base}{path}", method.to_ascii_uppercase());
                contracts.insert(name, contract(item, operation));
            }
        }
    }
    contracts
}

fn contract(item: &Value, operation: &Value) -> Contract {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut parameters = BTreeMap::new();
    let mut request = None;
    for parameter in list(&item["parameters"]).iter().chain(&list(&operation["parameters"])) {
        let text = |key: &str| parameter[key].as_str().unwrap_or_default();
        if text("in") == "body" {
            request = Some(members(&parameter["schema"]));
        } else {
            let name = format!("{} {}", text("in"), text("name"));
            parameters.insert(name, parameter["required"] == true);
        }
    }
    if let Some(schema) = operation["requestBody"]["content"].get("application/json") {
        request = Some(members(&schema["schema"]));
    }
    let responses = operation["responses"].as_object().expect("responses").iter();
    let responses = responses.map(|(status, response)| {
        let json = &response["content"]["application/json"]["schema"];
        (status.clone(), members(if json.is_null() { &response["schema"] } else { json }))
    });
    let security = list(&operation["security"]);
    let security = match security.iter().any(|one| one.as_object().is_some_and(Map::is_empty)) {
        _ if security.is_empty() => "none",
        true => "optional",
        false => "token",
    };
    Contract { security, parameters, request, responses: responses.collect() }
}

fn members(schema: &Value) -> Members {
    let mut members = Members::new();
    collect(schema, "", &mut members);
    members
}

fn collect(schema: &Value, at: &str, members: &mut Members) {
    for part in ["allOf", "anyOf"].iter().filter_map(|key| schema[*key].as_array()).flatten() {
        collect(part, at, members);
    }
    let required: Vec<&str> =
        schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for (name, member) in schema["properties"].as_object().into_iter().flatten() {
        let path = if at.is_empty() { name.clone() } else { format!("{at}.{name}") };
        let kind =
            if member["allOf"].is_array() { "object" } else { member["type"].as_str().unwrap_or("any") };
        let needed = required.contains(&name.as_str());
        members
            .entry(path.clone())
            .and_modify(|(_, before)| *before |= needed)
            .or_insert((kind.to_owned(), needed));
        collect(member, &path, members);
    }
    if schema["items"].is_object() {
        collect(&schema["items"], &format!("{at}[]"), members);
    }
    if schema["additionalProperties"].is_object() {
        collect(&schema["additionalProperties"], &format!("{at}{{}}"), members);
    }
}

/// A YAML file of the specification, every `$ref` replaced by what it names.
pub fn file(path: &Path) -> Value {
    inlined(&yaml(path), path)
}

/// A document all of whose `$ref`s are its own.
pub fn document(document: &Value) -> Value {
    replaced(document, &|reference| {
        let pointer = reference.strip_prefix('#').expect("a local $ref");
        self::document_part(document, pointer)
    })
}

fn document_part(document: &Value, pointer: &str) -> Value {
    let part = document.pointer(pointer).unwrap_or_else(|| panic!("dangling {pointer}"));
    replaced(part, &|reference| document_part(document, &reference[1..]))
}

fn yaml(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn inlined(value: &Value, file: &Path) -> Value {
    replaced(value, &|reference| {
        let (name, pointer) = reference.split_once('#').unwrap_or((reference, ""));
        let target: PathBuf =
            if name.is_empty() { file.to_owned() } else { file.parent().expect("a folder").join(name) };
        let whole = yaml(&target);
        inlined(whole.pointer(pointer).unwrap_or_else(|| panic!("dangling {reference}")), &target)
    })
}

fn replaced(value: &Value, meant: &dyn Fn(&str) -> Value) -> Value {
    match value {
        Value::Object(members) => match members.get("$ref").and_then(Value::as_str) {
            Some(reference) => meant(reference),
            None => members.iter().map(|(key, value)| (key.clone(), replaced(value, meant))).collect(),
        },
        Value::Array(items) => items.iter().map(|item| replaced(item, meant)).collect(),
        other => other.clone(),
    }
}
