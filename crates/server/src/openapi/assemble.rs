//! Puts the chapters of `openapi/` together and expands their shorthands, which the head of
//! `openapi/base.yaml` explains.
//!
//! The source is read strictly: a key that is not known here is an error, which the tests meet.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

const BASE: &str = include_str!("../../openapi/base.yaml");
const CHAPTERS: [&str; 13] = [
    include_str!("../../openapi/login.yaml"),
    include_str!("../../openapi/refresh.yaml"),
    include_str!("../../openapi/of_2015.yaml"),
    include_str!("../../openapi/register.yaml"),
    include_str!("../../openapi/account.yaml"),
    include_str!("../../openapi/third_party.yaml"),
    include_str!("../../openapi/devices.yaml"),
    include_str!("../../openapi/admin.yaml"),
    include_str!("../../openapi/openid.yaml"),
    include_str!("../../openapi/application_services.yaml"),
    include_str!("../../openapi/fallback.yaml"),
    include_str!("../../openapi/discovery.yaml"),
    include_str!("../../openapi/operation.yaml"),
];

/// What is wrong with the source.
#[derive(Debug, thiserror::Error)]
#[error("the OpenAPI description is malformed: {0}")]
pub struct Malformed(pub(super) String);

/// By status.
type Errors = BTreeMap<String, Codes>;

/// What one status may mean.
#[derive(Deserialize, Default, Clone)]
struct Codes {
    /// Members beside the usual two.
    #[serde(default)]
    with: Vec<String>,
    /// Each with its reason; none takes a shared one out.
    #[serde(flatten)]
    reasons: BTreeMap<String, Option<String>>,
}

#[derive(Deserialize)]
struct Base {
    #[serde(rename = "x-shared")]
    shared: BTreeMap<String, Errors>,
    #[serde(rename = "x-error-members")]
    members: BTreeMap<String, Value>,
    #[serde(rename = "x-error-headers")]
    headers: BTreeMap<String, Value>,
    security: Value,
    components: Components,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Components {
    #[serde(default)]
    security_schemes: Map<String, Value>,
    #[serde(default)]
    schemas: Map<String, Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Chapter {
    tag: Tag,
    paths: BTreeMap<String, PathItem>,
    #[serde(default)]
    components: Components,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Tag {
    name: String,
    description: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PathItem {
    #[serde(rename = "x-prefixes", default)]
    prefixes: Vec<String>,
    #[serde(default)]
    parameters: Vec<Value>,
    get: Option<Operation>,
    post: Option<Operation>,
    put: Option<Operation>,
    delete: Option<Operation>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Operation {
    summary: String,
    description: Option<String>,
    operation_id: String,
    deprecated: Option<bool>,
    /// As everywhere, if absent.
    security: Option<Vec<Value>>,
    #[serde(rename = "x-interactive", default)]
    interactive: Vec<String>,
    #[serde(rename = "x-limited")]
    limited: Option<String>,
    #[serde(default)]
    parameters: Vec<Value>,
    request_body: Option<Described>,
    responses: BTreeMap<String, Option<Map<String, Value>>>,
}

/// A request body, or a response that is no error.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Described {
    description: Option<String>,
    required: Option<bool>,
    headers: Option<Value>,
    json: Option<Value>,
    example: Option<Value>,
    content: Option<Value>,
}

/// The whole description.
///
/// # Errors
/// When a file of the source is not as it should be.
pub fn document() -> Result<Value, Malformed> {
    let mut base: Base = read(BASE)?;
    let mut paths = Map::new();
    let mut tags = Vec::new();
    for chapter in CHAPTERS {
        let Chapter { tag, paths: items, components } = read(chapter)?;
        for (path, item) in &items {
            base.serve(&tag.name, path, item, &mut paths)?;
        }
        tags.push(json!({"name": tag.name, "description": tag.description}));
        base.components.schemas.extend(components.schemas);
        base.components.security_schemes.extend(components.security_schemes);
    }
    let responses = base.shared_responses();
    let Base { security, components: Components { security_schemes, schemas }, mut rest, .. } = base;
    rest.insert("security".to_owned(), security);
    rest.insert("tags".to_owned(), tags.into());
    rest.insert("paths".to_owned(), paths.into());
    let components = json!({"securitySchemes": security_schemes, "schemas": schemas, "responses": responses});
    rest.insert("components".to_owned(), components);
    rest.entry("info").or_insert(Value::Null)["version"] = env!("CARGO_PKG_VERSION").into();
    Ok(rest.into())
}

fn read<T: DeserializeOwned>(source: &str) -> Result<T, Malformed> {
    let named = |error: &dyn std::fmt::Display| {
        Malformed(format!("{}: {error}", source.lines().next().unwrap_or_default()))
    };
    serde_saphyr::from_str(source).map_err(|error| named(&error))
}

impl Base {
    /// Adds the operations of a path under each of its prefixes.
    fn serve(
        &self,
        tag: &str,
        path: &str,
        item: &PathItem,
        paths: &mut Map<String, Value>,
    ) -> Result<(), Malformed> {
        let path = path.split('#').next().unwrap_or_default();
        let whole = [(path.to_owned(), String::new())];
        let below = item.prefixes.iter().enumerate().map(|(at, prefix)| {
            let suffix = if at == 0 { String::new() } else { format!("_{}", prefix.replace('/', "_")) };
            (format!("/_matrix/client/{prefix}/{path}"), suffix)
        });
        let served: Vec<_> = if item.prefixes.is_empty() { whole.into() } else { below.collect() };
        for (path, suffix) in served {
            let here = paths.entry(path.clone()).or_insert_with(|| json!({}));
            if !item.parameters.is_empty() {
                here["parameters"] = item.parameters.clone().into();
            }
            let methods =
                [("get", &item.get), ("post", &item.post), ("put", &item.put), ("delete", &item.delete)];
            for (method, operation) in methods {
                let Some(operation) = operation else { continue };
                if here.get(method).is_some() {
                    return Err(Malformed(format!("{method} {path} is described twice")));
                }
                here[method] = self.operation(tag, operation, &suffix)?;
            }
        }
        Ok(())
    }

    fn operation(&self, tag: &str, operation: &Operation, suffix: &str) -> Result<Value, Malformed> {
        let security = operation.security.clone().map_or_else(|| self.security.clone(), Into::into);
        let mut body = json!({
            "tags": [tag],
            "summary": operation.summary,
            "operationId": format!("{}{suffix}", operation.operation_id),
            "security": security,
            "responses": self.responses(operation)?,
        });
        let limited = operation.limited.as_ref().map(|why| format!("Limited: {why}"));
        let texts = [operation.description.clone(), limited];
        let texts: Vec<String> = texts.into_iter().flatten().map(|text| text.trim_end().to_owned()).collect();
        if !texts.is_empty() {
            body["description"] = texts.join("\n\n").into();
        }
        if let Some(deprecated) = operation.deprecated {
            body["deprecated"] = deprecated.into();
        }
        if !operation.parameters.is_empty() {
            body["parameters"] = operation.parameters.clone().into();
        }
        if let Some(request_body) = &operation.request_body {
            body["requestBody"] = request_body.expanded();
        }
        Ok(body)
    }

    fn responses(&self, operation: &Operation) -> Result<Value, Malformed> {
        let mut responses = Map::new();
        let mut errors = Errors::new();
        // Where all codes of a status are those of one kind, the response is shared too.
        let mut shared: BTreeMap<String, Option<String>> = BTreeMap::new();
        for kind in operation.kinds() {
            for (status, codes) in self.shared.get(kind).into_iter().flatten() {
                errors.entry(status.clone()).or_default().add(codes.clone());
                let name = shared.entry(status.clone()).or_insert_with(|| Some(component(kind, status)));
                if name.as_ref().is_some_and(|name| *name != component(kind, status)) {
                    *name = None;
                }
            }
        }
        for (status, response) in &operation.responses {
            shared.insert(status.clone(), None);
            match response {
                None => drop(errors.remove(status)),
                Some(response) if response.keys().any(|key| key.starts_with("M_")) => {
                    errors.entry(status.clone()).or_default().add(of_value(response)?);
                }
                Some(response) => {
                    errors.remove(status);
                    responses.insert(status.clone(), of_value::<Described>(response)?.expanded());
                }
            }
        }
        if !operation.interactive.is_empty() {
            shared.insert("401".to_owned(), None);
            errors.entry("401".to_owned()).or_default();
        }
        for (status, codes) in errors {
            let response = match shared.get(&status) {
                Some(Some(name)) => json!({"$ref": format!("#/components/responses/{name}")}),
                _ => self.error(&status, &codes, &operation.interactive),
            };
            responses.insert(status, response);
        }
        Ok(responses.into())
    }

    /// A response in the Matrix shape; a 401 may ask for proofs instead.
    fn error(&self, status: &str, codes: &Codes, stages: &[String]) -> Value {
        let with =
            codes.with.iter().map(|name| (name.clone(), self.members.get(name).cloned().unwrap_or_default()));
        let mut properties: Map<String, Value> = with.collect();
        let codes: Vec<(&String, &String)> =
            codes.reasons.iter().filter_map(|(code, why)| Some((code, why.as_ref()?))).collect();
        let mut lines: Vec<String> = codes.iter().map(|(code, why)| format!("* `{code}`: {why}")).collect();
        let names: Vec<&String> = codes.iter().map(|(code, _)| *code).collect();
        properties.insert("errcode".to_owned(), json!({"type": "string", "enum": names}));
        properties
            .insert("error".to_owned(), json!({"type": "string", "description": "The same for people."}));
        let mut schema =
            json!({"type": "object", "required": ["errcode", "error"], "properties": properties});
        let mut example = codes.first().map(|(code, why)| json!({"errcode": code, "error": why}));
        if status == "401" && !stages.is_empty() {
            lines.push(format!("* Proofs are needed. The stages: `{}`.", stages.join("`, `")));
            let needed = json!({"$ref": "#/components/schemas/AuthenticationNeeded"});
            schema = if codes.is_empty() { needed } else { json!({"anyOf": [needed, schema]}) };
            let flows = json!([{"stages": stages}]);
            example = Some(json!({"flows": flows, "params": {}, "session": "xxxxxx"}));
        }
        let mut response = json!({
            "description": lines.join("\n"),
            "content": {"application/json": {"schema": schema, "example": example}},
        });
        if let Some(headers) = self.headers.get(status) {
            response["headers"] = headers.clone();
        }
        response
    }

    fn shared_responses(&self) -> Map<String, Value> {
        let all = self.shared.iter().flat_map(|(kind, errors)| errors.iter().map(move |error| (kind, error)));
        all.map(|(kind, (status, codes))| (component(kind, status), self.error(status, codes, &[]))).collect()
    }
}

impl Operation {
    /// The kinds of `x-shared` that it is of.
    fn kinds(&self) -> impl Iterator<Item = &'static str> {
        let token = self.security.as_ref().is_none_or(|security| !security.is_empty());
        let interactive = !self.interactive.is_empty();
        let kinds = [
            ("always", true),
            ("body", self.request_body.is_some()),
            ("token", token),
            ("interactive", interactive),
            ("interactive_session", interactive && token),
            ("limited", self.limited.is_some()),
        ];
        kinds.into_iter().filter_map(|(kind, is)| is.then_some(kind))
    }
}

impl Codes {
    fn add(&mut self, more: Self) {
        self.with.extend(more.with);
        self.reasons.extend(more.reasons);
    }
}

impl Described {
    fn expanded(&self) -> Value {
        let mut body = Map::new();
        let given = [
            ("description", self.description.clone().map(Value::from)),
            ("required", self.required.map(Value::from)),
            ("headers", self.headers.clone()),
            ("content", self.content.clone()),
        ];
        body.extend(given.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))));
        if let Some(schema) = &self.json {
            let mut json = json!({"schema": schema});
            if let Some(example) = &self.example {
                json["example"] = example.clone();
            }
            body.insert("content".to_owned(), json!({"application/json": json}));
        }
        body.into()
    }
}

fn component(kind: &str, status: &str) -> String {
    format!("{kind}_{status}")
}

fn of_value<T: DeserializeOwned>(value: &Map<String, Value>) -> Result<T, Malformed> {
    serde_json::from_value(Value::Object(value.clone())).map_err(|error| Malformed(error.to_string()))
}
