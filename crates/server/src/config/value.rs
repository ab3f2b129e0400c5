//! How each type of value is read from TOML and from an environment variable, and printed as TOML.
//!
//! A value that is right in type but breaks a rule (a lifetime of 0) is the business of `check`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use lettre::message::Mailbox;
use toml::de::DeValue;

use super::duration;
use super::{
    CaptchaProvider, Contact, DatabaseUrl, LogFormat, Network, RegistrationEmail, RegistrationMode,
    SecretText, Security,
};

/// A type that a key can have.
pub(super) trait Setting: Sized {
    /// What a right value looks like; completes the words "expected …".
    const EXPECTED: &'static str;

    /// Reads a TOML value; `None` if it is not of this type.
    fn from_toml(value: &DeValue<'_>) -> Option<Self>;

    /// Reads the value of an environment variable. By default the text is taken as a TOML string.
    fn from_env(text: &str) -> Option<Self> {
        Self::from_toml(&DeValue::String(text.into()))
    }

    /// The value as TOML, free of secrets; `None` when absent.
    fn to_toml(&self) -> Option<String>;
}

/// Types that TOML holds as a string.
trait Text: Sized {
    const EXPECTED: &'static str;
    fn parse(text: &str) -> Option<Self>;
    fn print(&self) -> String;
}

impl<T: Text> Setting for T {
    const EXPECTED: &'static str = T::EXPECTED;

    fn from_toml(value: &DeValue<'_>) -> Option<Self> {
        value.as_str().and_then(T::parse)
    }

    fn to_toml(&self) -> Option<String> {
        Some(toml::Value::String(self.print()).to_string())
    }
}

macro_rules! text {
    ($type:ty, $expected:expr, $parse:expr, $print:expr) => {
        impl Text for $type {
            const EXPECTED: &'static str = $expected;
            fn parse(text: &str) -> Option<Self> {
                $parse(text)
            }
            fn print(&self) -> String {
                $print(self)
            }
        }
    };
}

text!(String, "text", |text: &str| Some(text.to_owned()), String::clone);
text!(
    PathBuf,
    r#"the path of a folder such as "/var/lib/ligand""#,
    |text: &str| (!text.is_empty()).then(|| PathBuf::from(text)),
    |path: &PathBuf| path.display().to_string()
);
text!(
    SocketAddr,
    r#"an address and port such as "127.0.0.1:8008" or "[::]:8008""#,
    |text: &str| text.parse().ok(),
    SocketAddr::to_string
);
text!(
    DatabaseUrl,
    r#""sqlite:PATH" or "postgres://user:password@host/database""#,
    |text: &str| text.parse().ok(),
    DatabaseUrl::to_string
);
text!(Duration, duration::EXPECTED, duration::parse_duration, |value: &Duration| duration::format_duration(
    *value
));
text!(
    RegistrationMode,
    r#""closed", "token" or "open""#,
    RegistrationMode::parse,
    |mode: &RegistrationMode| mode.as_str().to_owned()
);
text!(Security, r#""tls", "starttls" or "none""#, Security::parse, |security: &Security| security
    .as_str()
    .to_owned());
text!(
    Mailbox,
    r#"an e-mail address with or without a name, such as "Example <no-reply@example.org>""#,
    |text: &str| text.parse().ok(),
    Mailbox::to_string
);
text!(
    RegistrationEmail,
    r#""off", "optional" or "required""#,
    RegistrationEmail::parse,
    |choice: &RegistrationEmail| choice.as_str().to_owned()
);
text!(
    CaptchaProvider,
    r#""recaptcha", "hcaptcha" or "turnstile""#,
    CaptchaProvider::parse,
    |provider: &CaptchaProvider| provider.as_str().to_owned()
);
text!(SecretText, "text", |text: &str| Some(SecretText::new(text)), |_: &SecretText| "***".to_owned());
text!(
    LogFormat,
    r#""human" or "json""#,
    |text: &str| match text {
        "human" => Some(LogFormat::Human),
        "json" => Some(LogFormat::Json),
        _ => None,
    },
    LogFormat::to_string
);

impl Setting for bool {
    const EXPECTED: &'static str = "true or false";

    fn from_toml(value: &DeValue<'_>) -> Option<Self> {
        value.as_bool()
    }

    fn from_env(text: &str) -> Option<Self> {
        text.parse().ok()
    }

    fn to_toml(&self) -> Option<String> {
        Some(self.to_string())
    }
}

impl Setting for u32 {
    const EXPECTED: &'static str = "a whole number such as 10";

    fn from_toml(value: &DeValue<'_>) -> Option<Self> {
        let integer = value.as_integer()?;
        Self::from_str_radix(integer.as_str(), integer.radix()).ok()
    }

    fn from_env(text: &str) -> Option<Self> {
        text.parse().ok()
    }

    fn to_toml(&self) -> Option<String> {
        Some(self.to_string())
    }
}

impl Setting for u16 {
    const EXPECTED: &'static str = "a whole number up to 65535, such as 587";

    fn from_toml(value: &DeValue<'_>) -> Option<Self> {
        u32::from_toml(value)?.try_into().ok()
    }

    fn from_env(text: &str) -> Option<Self> {
        text.parse().ok()
    }

    fn to_toml(&self) -> Option<String> {
        Some(self.to_string())
    }
}

impl Setting for f64 {
    const EXPECTED: &'static str = "a number such as 0.5 or 2";

    fn from_toml(value: &DeValue<'_>) -> Option<Self> {
        match value {
            DeValue::Float(float) => float.as_str().parse().ok(),
            _ => u32::from_toml(value).map(Self::from),
        }
    }

    fn from_env(text: &str) -> Option<Self> {
        text.parse().ok()
    }

    fn to_toml(&self) -> Option<String> {
        Some(toml::Value::Float(*self).to_string())
    }
}

impl<T: Setting> Setting for Option<T> {
    const EXPECTED: &'static str = T::EXPECTED;

    fn from_toml(value: &DeValue<'_>) -> Option<Self> {
        T::from_toml(value).map(Some)
    }

    /// An empty variable takes away what the file says.
    fn from_env(text: &str) -> Option<Self> {
        if text.is_empty() {
            return Some(None);
        }
        T::from_env(text).map(Some)
    }

    fn to_toml(&self) -> Option<String> {
        self.as_ref().and_then(T::to_toml)
    }
}

impl Setting for Vec<Network> {
    const EXPECTED: &'static str = r#"a list of addresses or blocks such as ["127.0.0.1", "10.0.0.0/8"]"#;

    fn from_toml(value: &DeValue<'_>) -> Option<Self> {
        let items = value.as_array()?.iter();
        items.map(|item| item.get_ref().as_str()?.parse().ok()).collect()
    }

    /// A TOML list, or items separated by commas.
    fn from_env(text: &str) -> Option<Self> {
        if text.trim_start().starts_with('[') {
            return Self::from_toml(DeValue::parse(text).ok()?.get_ref());
        }
        let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
        items.map(|item| item.parse().ok()).collect()
    }

    fn to_toml(&self) -> Option<String> {
        let items: Vec<String> = self.iter().map(Network::to_string).collect();
        Some(toml::Value::from(items).to_string())
    }
}

impl Setting for Vec<Contact> {
    const EXPECTED: &'static str = r#"a list of contacts such as [{ role = "m.role.admin", email_address = "admin@example.org" }], each with `role` and `matrix_id`, `email_address` or both, and nothing else"#;

    fn from_toml(value: &DeValue<'_>) -> Option<Self> {
        let items = value.as_array()?.iter();
        items.map(|item| contact_from_toml(item.get_ref())).collect()
    }

    fn from_env(text: &str) -> Option<Self> {
        if text.is_empty() {
            return Some(Self::new());
        }
        Self::from_toml(DeValue::parse(text).ok()?.get_ref())
    }

    fn to_toml(&self) -> Option<String> {
        let items: Vec<toml::Value> = self.iter().map(contact_to_toml).collect();
        Some(toml::Value::Array(items).to_string())
    }
}

fn contact_from_toml(value: &DeValue<'_>) -> Option<Contact> {
    let mut contact = Contact { role: String::new(), matrix_id: None, email_address: None };
    for (name, value) in value.as_table()? {
        let text = value.get_ref().as_str().filter(|text| !text.is_empty())?.to_owned();
        match name.get_ref().as_ref() {
            "role" => contact.role = text,
            "matrix_id" => contact.matrix_id = Some(text),
            "email_address" => contact.email_address = Some(text),
            _ => return None,
        }
    }
    let reachable = contact.matrix_id.is_some() || contact.email_address.is_some();
    (reachable && !contact.role.is_empty()).then_some(contact)
}

fn contact_to_toml(contact: &Contact) -> toml::Value {
    let parts = [
        ("role", Some(&contact.role)),
        ("matrix_id", contact.matrix_id.as_ref()),
        ("email_address", contact.email_address.as_ref()),
    ];
    let mut table = toml::Table::new();
    for (name, text) in parts {
        if let Some(text) = text {
            table.insert(name.to_owned(), text.clone().into());
        }
    }
    toml::Value::Table(table)
}
