use ligand_storage::outbox::Message;

use super::*;

const ID: &str = "000102030405060708090a0b0c0d0e0f";

fn mail() -> Mail {
    let mut config = Config { server_name: "example.org".to_owned(), ..Config::default() };
    config.http.public_url = Some("https://matrix.example.org/".to_owned());
    Mail::new(&config).unwrap()
}

fn claimed(medium: Medium, params: &str) -> Claimed {
    let message = Message {
        medium,
        recipient: "a@example.org".to_owned(),
        template: "validate_register".to_owned(),
        params: params.to_owned(),
        created_at: 5,
        expires_at: 10,
    };
    Claimed { id: 7, attempts: 1, message }
}

#[test]
fn the_code_is_derived_when_it_is_sent() {
    let (mail, keys) = (mail(), TagKeys::new(&[7; 32], None));
    let params = format!(r#"{{"validation": "{ID}", "message": 2}}"#);
    let id = validation_id(ID).unwrap();
    for medium in [Medium::Email, Medium::Msisdn] {
        let values = mail.values(&keys, &claimed(medium, &params)).unwrap();
        let code = Code::derive(&keys, id, 2, medium);
        assert_eq!(values["code"], code.expose());
        let link = format!(
            "https://matrix.example.org/_matrix/client/unstable/org.ligand/validate/email?sid={ID}&token={}",
            code.expose()
        );
        assert_eq!(values["link"], link);
        assert!(!values.contains_key("validation") && !values.contains_key("message"));
    }
}

#[test]
fn parameters_that_make_no_message_are_refused() {
    let (mail, keys) = (mail(), TagKeys::new(&[7; 32], None));
    let no_number = format!(r#"{{"validation": "{ID}"}}"#);
    for params in
        ["", "[]", r#"{"validation": 1, "message": 1}"#, r#"{"validation": "00", "message": 1}"#, &no_number]
    {
        let refused = mail.values(&keys, &claimed(Medium::Email, params)).unwrap_err();
        assert_eq!(refused, NotSent::Never("its parameters cannot be read".to_owned()), "{params}");
    }
}

#[test]
fn nothing_a_stranger_chose_begins_a_line() {
    let (mail, keys) = (mail(), TagKeys::new(&[7; 32], None));
    let params = r#"{"device_name": "a\r\nBcc: x@example.com\u0007", "at": 0}"#;
    let values = mail.values(&keys, &claimed(Medium::Email, params)).unwrap();
    assert_eq!(values["device_name"], "a  Bcc: x@example.com ");
    assert_eq!(values["time"], "1970-01-01 00:00:00 UTC");
}

#[test]
fn a_repeated_message_has_the_same_id() {
    let (mail, one) = (mail(), claimed(Medium::Email, "{}"));
    let again = Claimed { attempts: 2, ..one.clone() };
    let other = Claimed { id: 8, ..one.clone() };
    assert_eq!(mail.message_id(&one), mail.message_id(&again));
    assert_ne!(mail.message_id(&one), mail.message_id(&other));
}

#[test]
fn only_the_domain_is_for_the_log() {
    assert_eq!(domain_of("a@example.org"), "example.org");
    assert_eq!(domain_of("491701234567"), "-");
}
