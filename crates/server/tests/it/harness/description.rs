//! Holds every answer of every test against the description that the server gives of itself: its
//! path, method and status are described, its headers are there, its body is as the schema says,
//! and nothing else is in it.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use jsonschema::Validator;
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::Answer;

/// The whole description, and one validator for each schema used so far.
pub struct Description {
    pub document: Value,
    /// The components with closed schemas.
    components: Value,
    validators: Mutex<HashMap<String, Arc<Validator>>>,
}

impl Description {
    /// The one that is served.
    pub fn get() -> &'static Self {
        static DESCRIPTION: LazyLock<Description> = LazyLock::new(|| {
            Description::new(ligand_server::openapi::document().expect("a well-formed source"))
        });
        &DESCRIPTION
    }

    pub fn new(document: Value) -> Self {
        let components = json!({"schemas": closed(&document["components"]["schemas"])});
        Self { document, components, validators: Mutex::default() }
    }

    /// What is wrong with an answer, if anything is.
    pub fn check(&self, method: &str, target: &str, answer: &Answer) -> Result<(), String> {
        if method == "OPTIONS" {
            return expect(answer, 200, None);
        }
        let path = target.split('?').next().unwrap_or_default();
        let Some((path, item)) = self.path(path) else { return expect(answer, 404, Some("M_UNRECOGNIZED")) };
        let asked = if method == "HEAD" { "get" } else { &method.to_ascii_lowercase() };
        let Some(operation) = item.get(asked) else { return expect(answer, 405, Some("M_UNRECOGNIZED")) };
        let response = self.resolve(&operation["responses"][answer.status.to_string()]);
        if response.is_null() {
            return Err(format!("{method} {path} is not described to answer {}", answer.status));
        }
        for (name, header) in response["headers"].as_object().into_iter().flatten() {
            if header["required"] == true && answer.header(&name.to_ascii_lowercase()).is_none() {
                return Err(format!("{method} {path} has to have the header {name}"));
            }
        }
        let Some(content) = response["content"].as_object() else {
            return if answer.text.is_empty() { Ok(()) } else { Err("no body is described".to_owned()) };
        };
        let kind = answer.header("content-type").unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default();
        let Some(media) = content.get(kind) else { return Err(format!("{kind:?} is not described")) };
        if kind != "application/json" || method == "HEAD" {
            return Ok(());
        }
        let body = serde_json::from_str(&answer.text).map_err(|error| error.to_string())?;
        self.fits(&format!("{asked} {path} {}", answer.status), &closed(&media["schema"]), &body)
    }

    /// Whether a value is what a schema says. `name` tells schemas apart.
    pub fn fits(&self, name: &str, schema: &Value, value: &Value) -> Result<(), String> {
        let validator = self
            .validators
            .lock()
            .entry(name.to_owned())
            .or_insert_with(|| {
                let mut schema = schema.clone();
                schema["components"] = self.components.clone();
                Arc::new(
                    jsonschema::draft202012::new(&schema).unwrap_or_else(|error| panic!("{name}: {error}")),
                )
            })
            .clone();
        let wrong: Vec<String> =
            validator.iter_errors(value).map(|error| format!("{}: {error}", error.instance_path())).collect();
        if wrong.is_empty() { Ok(()) } else { Err(format!("{name}: {}", wrong.join("; "))) }
    }

    /// What a `$ref` within the document means; anything else is itself.
    pub fn resolve<'a>(&'a self, value: &'a Value) -> &'a Value {
        let reference = value["$ref"].as_str().and_then(|text| text.strip_prefix('#'));
        reference.map_or(value, |pointer| self.document.pointer(pointer).expect("no dangling $ref"))
    }

    /// The path of the description that one asked for is an instance of.
    fn path(&self, asked: &str) -> Option<(&str, &Value)> {
        let paths = self.document["paths"].as_object().expect("paths");
        let found =
            paths.get_key_value(asked).or_else(|| paths.iter().find(|(path, _)| is_instance(path, asked)));
        found.map(|(path, item)| (path.as_str(), item))
    }
}

fn is_instance(path: &str, asked: &str) -> bool {
    let (path, asked): (Vec<&str>, Vec<&str>) = (path.split('/').collect(), asked.split('/').collect());
    let fits = |(part, asked): (&&str, &&str)| part == asked || (part.starts_with('{') && !asked.is_empty());
    path.len() == asked.len() && path.iter().zip(&asked).all(fits)
}

fn expect(answer: &Answer, status: u16, errcode: Option<&str>) -> Result<(), String> {
    let has = serde_json::from_str(&answer.text).unwrap_or(Value::Null);
    if answer.status == status && has["errcode"].as_str() == errcode {
        return Ok(());
    }
    Err(format!("neither this path with this method is described, nor is this {status}"))
}

/// A schema under which objects may only have the members it names.
pub fn closed(schema: &Value) -> Value {
    match schema {
        Value::Object(members) => {
            let mut closed: serde_json::Map<_, _> =
                members.iter().map(|(key, value)| (key.clone(), self::closed(value))).collect();
            if members.get("properties").is_some_and(Value::is_object) {
                closed.entry("additionalProperties").or_insert(false.into());
            }
            closed.into()
        }
        Value::Array(items) => items.iter().map(closed).collect(),
        other => other.clone(),
    }
}
