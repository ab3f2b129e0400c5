//! Whatever stands in `X-Forwarded-For`: a stranger's claim never counts.
#![no_main]

use std::net::IpAddr;

use axum::http::{HeaderMap, HeaderValue};
use libfuzzer_sys::fuzz_target;
use ligand_server::config::Network;
use ligand_server::extract::{Caller, client_address};

fuzz_target!(|data: &[u8]| {
    let trusted: Vec<Network> = ["127.0.0.1", "10.0.0.0/8"].map(|text| text.parse().unwrap()).to_vec();
    let (stranger, proxy): (IpAddr, IpAddr) = ("203.0.113.9".parse().unwrap(), "127.0.0.1".parse().unwrap());
    let mut headers = HeaderMap::new();
    for line in data.split(|byte| *byte == b'\n') {
        if let Ok(value) = HeaderValue::from_bytes(line) {
            headers.append("x-forwarded-for", value.clone());
            headers.insert("user-agent", value);
        }
    }
    assert_eq!(client_address(&headers, stranger, &trusted), stranger);
    let address = client_address(&headers, proxy, &trusted);
    // Nothing left of the rightmost hop that is no proxy of ours has any say.
    headers.insert("x-forwarded-for", HeaderValue::from_static("198.51.100.1"));
    assert_ne!(client_address(&headers, proxy, &trusted), proxy);
    let caller = Caller::of(&headers, address, &trusted);
    assert!(caller.user_agent.is_none_or(|agent| agent.len() <= 256));
});
