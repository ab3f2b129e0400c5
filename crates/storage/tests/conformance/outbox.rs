//! The outbox: messages come with what they tell about, and each is sent by one process at a time.

use ligand_protocol::ids::UserKey;
use ligand_protocol::session::{Door, Spending};
use ligand_protocol::validation::Medium;
use ligand_storage::audit::AuditEvent;
use ligand_storage::outbox::{Claimed, Message, Notice};
use ligand_storage::users::PasswordHash;
use ligand_storage::{Store, params};

use crate::on_both;
use crate::world::*;

const LEASE: i64 = MINUTE;

fn message(recipient: &str, now: i64) -> Message {
    Message {
        medium: Medium::Email,
        recipient: recipient.into(),
        template: "test".into(),
        params: r#"{"a": "é"}"#.into(),
        created_at: now,
        expires_at: NOW + HOUR,
    }
}

async fn claim(store: &Store, now: i64) -> Vec<Claimed> {
    store.claim_mail(now, now + LEASE, 100).await.unwrap()
}

async fn add_address(store: &Store, user: UserKey, medium: &str, address: &str) {
    let sql =
        "INSERT INTO threepids (medium, address, user_id, validated_at, added_at) VALUES ($1, $2, $3, 0, 0)";
    execute(store, sql, params![medium, address, user]).await;
}

/// An event whose owner is told of it.
fn told(action: &'static str, user: UserKey) -> AuditEvent {
    let notice = Notice { template: "notice_test", params: "{}".into(), expires_at: NOW + HOUR };
    AuditEvent { user: Some(user), notice: Some(notice), ..event(action) }
}

/// Who is written to, in order; the outbox is empty afterwards.
async fn written_to(store: &Store) -> Vec<String> {
    let mut recipients = Vec::new();
    for Claimed { id, attempts, message } in claim(store, NOW).await {
        assert_eq!((message.template.as_str(), message.created_at), ("notice_test", NOW));
        assert_eq!(store.mail_sent(id, attempts).await, Ok(true));
        recipients.push(message.recipient);
    }
    recipients.sort();
    recipients
}

on_both! {
    a_message_comes_out_as_it_went_in(store) {
        let (older, newer) = (message("a@example.org", NOW - 5), message("b@example.org", NOW));
        let newer = Message { medium: Medium::Msisdn, ..newer };
        store.add_mail(&newer).await.unwrap();
        store.add_mail(&older).await.unwrap();
        assert_eq!(store.outbox_depth().await, Ok(2));
        assert_eq!(claim(&store, NOW - 6).await, []);
        let first = store.claim_mail(NOW, NOW + LEASE, 1).await.unwrap();
        assert_eq!(first.iter().map(|claimed| &claimed.message).collect::<Vec<_>>(), [&older]);
        let rest = claim(&store, NOW).await;
        assert_eq!(rest.iter().map(|claimed| &claimed.message).collect::<Vec<_>>(), [&newer]);
    }

    a_claim_holds_until_its_lease_is_over(store) {
        store.add_mail(&message("a@example.org", NOW)).await.unwrap();
        let first = claim(&store, NOW).await.remove(0);
        assert_eq!(claim(&store, NOW + LEASE - 1).await, []);
        let second = claim(&store, NOW + LEASE).await.remove(0);
        assert_eq!((second.id, first.attempts, second.attempts), (first.id, 1, 2));
        // Whoever held the first claim has no say any more.
        assert_eq!(store.mail_sent(first.id, 1).await, Ok(false));
        assert_eq!(store.mail_failed(first.id, 1, NOW).await, Ok(false));
        assert_eq!(store.mail_dropped(first.id, 1).await, Ok(false));
        assert_eq!(store.mail_sent(second.id, 2).await, Ok(true));
        assert_eq!(store.outbox_depth().await, Ok(0));
    }

    a_failed_message_waits_and_comes_again(store) {
        store.add_mail(&message("a@example.org", NOW)).await.unwrap();
        let Claimed { id, attempts, .. } = claim(&store, NOW).await.remove(0);
        assert_eq!(store.mail_failed(id, attempts, NOW + 10).await, Ok(true));
        assert_eq!(claim(&store, NOW + 9).await, []);
        let again = claim(&store, NOW + 10).await.remove(0);
        assert_eq!((again.id, again.attempts), (id, 2));
        assert_eq!(store.mail_dropped(id, 2).await, Ok(true));
        assert_eq!(store.mail_dropped(id, 2).await, Ok(false));
    }

    an_expired_message_is_not_sent_but_deleted(store) {
        store.add_mail(&message("a@example.org", NOW)).await.unwrap();
        let late = Message { expires_at: NOW + HOUR + 1, ..message("b@example.org", NOW) };
        store.add_mail(&late).await.unwrap();
        let sent = claim(&store, NOW + HOUR).await;
        assert_eq!(sent.iter().map(|claimed| &claimed.message).collect::<Vec<_>>(), [&late]);
        assert_eq!(store.delete_expired_mail(NOW + HOUR - 1, 10).await, Ok(0));
        assert_eq!(store.delete_expired_mail(NOW + HOUR, 10).await, Ok(1));
        assert_eq!(store.outbox_depth().await, Ok(1));
    }

    one_of_many_claims_a_message(store) {
        for _ in 0..8 {
            store.add_mail(&message("a@example.org", NOW)).await.unwrap();
        }
        let tasks = (0..32).map(|_| {
            let store = store.store.clone();
            async move { claim(&store, NOW).await }
        });
        let mut ids: Vec<i64> = all_at_once(tasks).await.into_iter().flatten().map(|claimed| claimed.id).collect();
        ids.sort_unstable();
        let claims = ids.len();
        ids.dedup();
        assert_eq!((claims, ids.len()), (8, 8), "each once, and none left over");
    }

    one_of_many_settles_a_message(store) {
        store.add_mail(&message("a@example.org", NOW)).await.unwrap();
        let id = claim(&store, NOW).await.remove(0).id;
        let tasks = (0..32).map(|_| {
            let store = store.store.clone();
            async move { store.mail_sent(id, 1).await.unwrap() }
        });
        assert_eq!(all_at_once(tasks).await.into_iter().filter(|done| *done).count(), 1);
    }

    a_claim_is_by_id_and_attempts(store) {
        // Both terms of CLAIM: two readers see both messages, and one of them has claimed the first.
        for recipient in ["a@example.org", "b@example.org"] {
            store.add_mail(&message(recipient, NOW)).await.unwrap();
        }
        let first = store.claim_mail(NOW, NOW + LEASE, 1).await.unwrap().remove(0);
        let claim_again = "UPDATE outbox SET due_at = 0 WHERE id = $1";
        execute(&store, claim_again, params![first.id]).await;
        let both = claim(&store, NOW).await;
        let attempts: Vec<_> = both.iter().map(|claimed| (claimed.id == first.id, claimed.attempts)).collect();
        assert_eq!(attempts, [(true, 2), (false, 1)]);
    }

    a_settlement_is_by_id_and_attempts(store) {
        for recipient in ["a@example.org", "b@example.org"] {
            store.add_mail(&message(recipient, NOW)).await.unwrap();
        }
        let claimed = claim(&store, NOW).await;
        let (a, b) = (claimed[0].id, claimed[1].id);
        assert_eq!(store.mail_sent(a, 2).await, Ok(false));
        assert_eq!(store.mail_failed(a, 2, NOW).await, Ok(false));
        assert_eq!(store.mail_sent(a + b, 1).await, Ok(false));
        assert_eq!(store.mail_failed(a, 1, NOW).await, Ok(true));
        assert_eq!(store.mail_sent(b, 1).await, Ok(true));
        let left = claim(&store, NOW).await;
        assert_eq!((left.len(), left[0].id, left[0].attempts), (1, a, 2));
    }

    a_new_device_is_told_to_every_address_and_a_known_one_to_none(store) {
        let (alice, bob) = (add_user(&store, "alice").await, add_user(&store, "bob").await);
        add_address(&store, alice, "email", "a@example.org").await;
        add_address(&store, alice, "email", "a@example.com").await;
        add_address(&store, alice, "msisdn", "491701234567").await;
        for (user, device, expected) in [
            (alice, "A", &["a@example.com", "a@example.org"][..]),
            (alice, "A", &[]),
            (alice, "B", &["a@example.com", "a@example.org"]),
            (bob, "A", &[]),
        ] {
            let (mut sign_in, _) = sign_in_as(user, load_user(&store, user).await.verified(), device);
            sign_in.audit = told("sign_in", user);
            assert_eq!(store.sign_in(&sign_in).await, Ok(true));
            assert_eq!(written_to(&store).await, expected, "{device}");
        }
    }

    a_sign_in_that_did_not_happen_is_told_to_nobody(store) {
        let alice = add_user(&store, "alice").await;
        add_address(&store, alice, "email", "a@example.org").await;
        let mut verified = load_user(&store, alice).await.verified();
        verified.epoch += 1;
        let (mut sign_in, _) = sign_in_as(alice, verified, "A");
        sign_in.audit = told("sign_in", alice);
        assert_eq!(store.sign_in(&sign_in).await, Ok(false));
        assert_eq!(store.outbox_depth().await, Ok(0));
    }

    a_changed_password_and_an_ended_family_are_told_once(store) {
        let alice = add_user(&store, "alice").await;
        add_address(&store, alice, "email", "a@example.org").await;
        let held = sign_in(&store, alice, "A").await;
        assert!(rotate(&store, &held, Door::Refresh, Spending::Head).await.is_some());
        let reuse = told("reuse", alice);
        assert_eq!(store.end_family(held.id, &reuse).await, Ok(true));
        assert_eq!(store.end_family(held.id, &reuse).await, Ok(false));
        assert_eq!(written_to(&store).await, ["a@example.org"]);
        let verified = load_user(&store, alice).await.verified();
        let (hash, changed) = (PasswordHash("new".into()), told("password", alice));
        assert_eq!(store.set_password(alice, verified, &hash, true, None, None, &changed).await, Ok(true));
        assert_eq!(store.set_password(alice, verified, &hash, true, None, None, &changed).await, Ok(false));
        assert_eq!(written_to(&store).await, ["a@example.org"]);
    }
}
