//! `GET /api/openapi.json`.

use serde_json::Value;

use crate::both;
use crate::harness::{Description, Server};

const PATH: &str = "/api/openapi.json";

both! {
    async fn it_is_served_whole_to_everybody(server: Server) {
        let answer = server.get(PATH).await;
        assert_eq!(answer.expect_ok(), Description::get().document);
        assert_eq!(answer.header("cache-control"), Some("public, max-age=3600"));
        assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
    }

    async fn who_has_it_is_told_so(server: Server) {
        let etag = server.get(PATH).await.header("etag").expect("an ETag").to_owned();
        for has in [etag.clone(), format!("W/{etag}"), format!("\"another\", {etag}"), "*".to_owned()] {
            let answer = server.get(PATH).header("if-none-match", &has).await;
            assert_eq!((answer.status, answer.text.as_str()), (304, ""), "{has}");
            assert_eq!(answer.header("etag"), Some(etag.as_str()));
        }
        for other in ["\"another\"", "", &etag[1..]] {
            server.get(PATH).header("if-none-match", other).await.expect_ok();
        }
    }
}

fn operations() -> Vec<&'static Value> {
    let paths = Description::get().document["paths"].as_object().expect("paths");
    let items = paths.values().filter_map(Value::as_object);
    items.flatten().filter(|(key, _)| *key != "parameters").map(|(_, operation)| operation).collect()
}

#[test]
fn every_operation_says_what_it_is() {
    for operation in operations() {
        let text = |key: &str| operation[key].as_str().is_some_and(|text| !text.is_empty());
        assert!(text("summary") && text("operationId") && operation["tags"][0].is_string(), "{operation}");
        assert!(operation["security"].is_array(), "{operation}");
        assert!(operation["responses"]["503"].is_object(), "{operation}");
    }
}

#[test]
fn operations_have_names_of_their_own() {
    let mut names: Vec<&str> = operations().iter().filter_map(|one| one["operationId"].as_str()).collect();
    let all = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), all);
}
