//! Examples have to be what the schemas beside them say.

use serde_json::Value;

use crate::harness::{Description, closed};

#[test]
fn every_example_fits_its_schema() {
    let description = Description::get();
    let mut seen = 0;
    for (path, item) in description.document["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("a path item") {
            let mut media = vec![("request".to_owned(), &operation["requestBody"])];
            let responses = operation["responses"].as_object().into_iter().flatten();
            media.extend(responses.map(|(status, response)| (status.clone(), description.resolve(response))));
            for (place, described) in media {
                let json = &described["content"]["application/json"];
                let example = &json["example"];
                if example.is_null() {
                    let bodiless = described["content"].is_null() || json.is_null();
                    let whole_document = path == "/api/openapi.json";
                    assert!(bodiless || whole_document, "{method} {path} {place} has no example");
                    continue;
                }
                let name = format!("example: {method} {path} {place}");
                let fits = description.fits(&name, &closed(&json["schema"]), example);
                assert_eq!(fits, Ok(()));
                seen += 1;
            }
        }
    }
    assert!(seen > 100, "only {seen} examples");
}

#[test]
fn what_is_outside_a_schema_is_found() {
    let description = Description::get();
    let schema = closed(&serde_json::json!({"$ref": "#/components/schemas/Tokens"}));
    let fits = |text: &str| {
        let value: Value = serde_json::from_str(text).expect("JSON");
        description.fits("tokens", &schema, &value).is_ok()
    };
    assert!(fits(r#"{"access_token": "a", "expires_in_ms": 5}"#));
    assert!(!fits(r#"{"refresh_token": "a"}"#));
    assert!(!fits(r#"{"access_token": 1}"#));
    assert!(!fits(r#"{"access_token": "a", "more": 1}"#));
}
