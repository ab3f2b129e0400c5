//! The policies a person agrees to at registration, as the operator writes them down:
//!
//! ```toml
//! [[registration.terms]]
//! id = "privacy_policy"
//! version = "1.0"
//! en = { name = "Privacy policy", url = "https://example.org/privacy" }
//! ```
//!
//! Every key but `id` and `version` is a language, as in the specification's `policies`. What is
//! left out is found by `check`, which can say what.

use std::collections::BTreeMap;

use toml::de::DeValue;

use super::value::Setting;

/// One policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    pub id: String,
    pub version: String,
    /// By language tag, `en`.
    pub texts: BTreeMap<String, PolicyText>,
}

/// One policy in one language.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicyText {
    pub name: String,
    pub url: String,
}

impl Setting for Vec<Policy> {
    const EXPECTED: &'static str = r#"a list of policies such as [{ id = "privacy_policy", version = "1.0", en = { name = "Privacy policy", url = "https://example.org/privacy" } }], each with `id`, `version` and one entry for each language, and nothing else"#;

    fn from_toml(value: &DeValue<'_>) -> Option<Self> {
        value.as_array()?.iter().map(|item| policy_from_toml(item.get_ref())).collect()
    }

    fn from_env(text: &str) -> Option<Self> {
        if text.is_empty() {
            return Some(Self::new());
        }
        Self::from_toml(DeValue::parse(text).ok()?.get_ref())
    }

    fn to_toml(&self) -> Option<String> {
        Some(toml::Value::Array(self.iter().map(policy_to_toml).collect()).to_string())
    }
}

fn policy_from_toml(value: &DeValue<'_>) -> Option<Policy> {
    let mut policy = Policy::default();
    for (name, value) in value.as_table()? {
        let value = value.get_ref();
        match name.get_ref().as_ref() {
            "id" => value.as_str()?.clone_into(&mut policy.id),
            "version" => value.as_str()?.clone_into(&mut policy.version),
            language => {
                policy.texts.insert(language.to_owned(), text_from_toml(value)?);
            }
        }
    }
    Some(policy)
}

fn text_from_toml(value: &DeValue<'_>) -> Option<PolicyText> {
    let mut text = PolicyText::default();
    for (name, value) in value.as_table()? {
        let value = value.get_ref().as_str()?;
        match name.get_ref().as_ref() {
            "name" => value.clone_into(&mut text.name),
            "url" => value.clone_into(&mut text.url),
            _ => return None,
        }
    }
    Some(text)
}

fn policy_to_toml(policy: &Policy) -> toml::Value {
    let mut table = toml::Table::new();
    table.insert("id".to_owned(), policy.id.clone().into());
    table.insert("version".to_owned(), policy.version.clone().into());
    for (language, PolicyText { name, url }) in &policy.texts {
        let text = toml::Table::from_iter([
            ("name".to_owned(), name.clone().into()),
            ("url".to_owned(), url.clone().into()),
        ]);
        table.insert(language.clone(), toml::Value::Table(text));
    }
    toml::Value::Table(table)
}
