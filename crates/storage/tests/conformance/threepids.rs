//! Validations and addresses: asked for, guessed at, proved, used once, owned by one account.

use std::sync::Arc;

use ligand_protocol::ids::{SessionId, UserKey, ValidationId};
use ligand_protocol::validation::{Medium, Purpose, Validation, secret_hash};
use ligand_storage::Store;
use ligand_storage::threepids::{Added, Proved, Threepid};
use ligand_storage::users::{Created, NewUser, PasswordHash, Registration, ResetProof, Upgrade};

use crate::on_both;
use crate::world::*;

const ADDRESS: &str = "alice@example.org";

fn asked_for(purpose: Purpose, secret: &str) -> Validation {
    Validation {
        id: ValidationId(unique()),
        secret_hash: secret_hash(secret),
        purpose,
        medium: Medium::Email,
        address: ADDRESS.into(),
        send_attempt: 1,
        sent: 1,
        failures: 0,
        next_link: Some("https://example.org/next".into()),
        expires_at: NOW + HOUR,
        validated_at: None,
    }
}

/// A validation that is done.
async fn validated(store: &Store, purpose: Purpose, secret: &str) -> Validation {
    let new = asked_for(purpose, secret);
    assert_eq!(store.begin_validation(&new, None, None, NOW).await, Ok(true));
    assert_eq!(store.validate(&new, NOW + 5).await, Ok(true));
    Validation { validated_at: Some(NOW + 5), ..new }
}

/// A guest and its session.
async fn guest(store: &Store, name: &str) -> (UserKey, SessionId) {
    let new = NewUser { guest: true, password_hash: None, ..new_user(name) };
    assert_eq!(store.create_user(&new, &Registration::default(), &event("guest")).await, Ok(Created::Done));
    (new.key, sign_in(store, new.key, "KIOSK").await.id)
}

fn proved(validation: &Validation, address: &str) -> Proved {
    let threepid = Threepid {
        medium: Medium::Email,
        address: address.into(),
        validated_at: NOW + 5,
        added_at: NOW + 10,
    };
    Proved { validation: validation.id, threepid }
}

on_both! {
    a_validation_is_kept_as_it_was_asked_for(store) {
        let new = asked_for(Purpose::Register, "secret");
        assert_eq!(store.begin_validation(&new, None, None, NOW).await, Ok(true));
        assert_eq!(store.load_validation(new.id).await, Ok(Some(new.clone())));
        let find = |purpose, medium, address: &'static str, secret| {
            store.find_validation(purpose, medium, address, secret_hash(secret))
        };
        let found = find(Purpose::Register, Medium::Email, ADDRESS, "secret").await;
        assert_eq!(found, Ok(Some(new)));
        assert_eq!(find(Purpose::AccountPassword, Medium::Email, ADDRESS, "secret").await, Ok(None));
        assert_eq!(find(Purpose::Register, Medium::Msisdn, ADDRESS, "secret").await, Ok(None));
        assert_eq!(find(Purpose::Register, Medium::Email, "bob@example.org", "secret").await, Ok(None));
        assert_eq!(find(Purpose::Register, Medium::Email, ADDRESS, "other").await, Ok(None));
    }

    one_client_has_one_validation_until_it_expires(store) {
        let first = asked_for(Purpose::Register, "secret");
        let second = Validation { id: ValidationId(unique()), ..first.clone() };
        assert_eq!(store.begin_validation(&first, None, None, NOW).await, Ok(true));
        assert_eq!(store.begin_validation(&second, None, None, NOW).await, Ok(false));
        let early = NOW + HOUR - 1;
        assert_eq!(store.begin_validation(&second, Some(first.id), None, early).await, Ok(false));
        assert_eq!(store.begin_validation(&second, Some(first.id), None, NOW + HOUR).await, Ok(true));
        assert_eq!(store.load_validation(first.id).await, Ok(None));
    }

    a_further_message_makes_a_new_code_and_forgives_guesses(store) {
        let first = asked_for(Purpose::Register, "secret");
        assert_eq!(store.begin_validation(&first, None, None, NOW).await, Ok(true));
        assert_eq!(store.count_wrong_code(&first).await, Ok(true));
        let again = Validation { send_attempt: 7, sent: 2, next_link: None, expires_at: NOW + 2 * HOUR, ..first.clone() };
        assert_eq!(store.send_validation_again(&first, &again, None).await, Ok(true));
        assert_eq!(store.send_validation_again(&first, &again, None).await, Ok(false));
        assert_eq!(store.load_validation(first.id).await, Ok(Some(again)));
    }

    parallel_guesses_are_each_counted_or_judged_again(store) {
        let new = asked_for(Purpose::Register, "secret");
        assert_eq!(store.begin_validation(&new, None, None, NOW).await, Ok(true));
        let store = Arc::new(store);
        let guess = |_| {
            let (store, new) = (Arc::clone(&store), new.clone());
            tokio::spawn(async move { store.count_wrong_code(&new).await.unwrap() })
        };
        let mut counted = 0;
        for guess in (0..32).map(guess).collect::<Vec<_>>() {
            counted += u32::from(guess.await.unwrap());
        }
        assert_eq!(counted, 1);
        assert_eq!(store.load_validation(new.id).await.unwrap().unwrap().failures, 1);
        assert_eq!(store.validate(&new, NOW).await, Ok(false), "it has changed since it was read");
    }

    an_address_is_given_once_and_to_one_account(store) {
        let (alice, bob) = (add_user(&store, "alice").await, add_user(&store, "bob").await);
        let first = validated(&store, Purpose::AccountThreepid, "a").await;
        let second = validated(&store, Purpose::AccountThreepid, "b").await;
        let event = event("threepid_added");
        let add = |user, validation| {
            let (store, event, proved) = (&store, &event, proved(validation, ADDRESS));
            async move { store.add_threepid(user, None, &proved, event).await.unwrap() }
        };
        assert_eq!(add(alice, &first).await, Added::Done);
        assert_eq!(add(alice, &first).await, Added::ProofSpent);
        assert_eq!(add(bob, &second).await, Added::InUse);
        assert!(store.load_validation(second.id).await.unwrap().is_some(), "nothing of a conflict stays");
        assert_eq!(store.owner_of(Medium::Email, ADDRESS).await, Ok(Some(alice)));
        assert_eq!(store.find_user_by_address(Medium::Email, ADDRESS).await.unwrap().unwrap().key, alice);
        assert_eq!(store.threepids_of(alice).await, Ok(vec![proved(&first, ADDRESS).threepid]));
        assert_eq!(store.remove_threepid(bob, Medium::Email, ADDRESS, &event).await, Ok(false));
        assert_eq!(store.remove_threepid(alice, Medium::Email, ADDRESS, &event).await, Ok(true));
        assert_eq!(add(bob, &second).await, Added::Done);
    }

    of_thirty_two_that_use_a_proof_one_wins(store) {
        let proof = validated(&store, Purpose::AccountThreepid, "a").await;
        let store = Arc::new(store);
        let mut racing = Vec::new();
        for at in 0..32 {
            let user = add_user(&store, &format!("user{at}")).await;
            // Of addresses that do not meet, so that only the proof can refuse.
            let (store, proved) = (Arc::clone(&store), proved(&proof, &format!("{at}@example.org")));
            racing.push(tokio::spawn(async move {
                store.add_threepid(user, None, &proved, &event("threepid_added")).await.unwrap()
            }));
        }
        let mut added = 0;
        for one in racing {
            match one.await.unwrap() {
                Added::Done => added += 1,
                other => assert_eq!(other, Added::ProofSpent),
            }
        }
        assert_eq!(added, 1);
    }

    who_registers_brings_an_address(store) {
        let proof = validated(&store, Purpose::Register, "a").await;
        let with = |validation, address| Registration { threepids: vec![proved(validation, address)], ..Registration::default() };
        let created = store.create_user(&new_user("alice"), &with(&proof, ADDRESS), &event("register")).await;
        assert_eq!(created, Ok(Created::Done));
        let again = store.create_user(&new_user("bob"), &with(&proof, "bob@example.org"), &event("register")).await;
        assert_eq!(again, Ok(Created::ProofSpent));
        let other = validated(&store, Purpose::Register, "b").await;
        let taken = store.create_user(&new_user("bob"), &with(&other, ADDRESS), &event("register")).await;
        assert_eq!(taken, Ok(Created::AddressTaken));
        assert_eq!(store.count_users().await, Ok(1));
    }

    a_guest_that_becomes_a_user_brings_one_too(store) {
        let proof = validated(&store, Purpose::Register, "a").await;
        let hash = PasswordHash("chosen".into());
        let upgrade = |guest: UserKey, session, validation, address| {
            let with = Registration { threepids: vec![proved(validation, address)], ..Registration::default() };
            let (store, hash, upgrade) = (&store, &hash, Upgrade { guest, epoch: 0, session });
            async move { store.upgrade_guest(upgrade, hash, &with, &event("upgrade")).await }
        };
        let (one, one_held) = guest(&store, "1").await;
        let (two, two_held) = guest(&store, "2").await;
        assert_eq!(upgrade(one, one_held, &proof, ADDRESS).await, Ok(Created::Done));
        assert_eq!(store.threepids_of(one).await, Ok(vec![proved(&proof, ADDRESS).threepid]));
        assert_eq!(upgrade(two, two_held, &proof, "two@example.org").await, Ok(Created::ProofSpent));
        let other = validated(&store, Purpose::Register, "b").await;
        assert_eq!(upgrade(two, two_held, &other, ADDRESS).await, Ok(Created::AddressTaken));
        assert!(load_user(&store, two).await.guest, "nothing of a conflict stays");
        assert_eq!(upgrade(two, two_held, &other, "two@example.org").await, Ok(Created::Done));
    }

    of_thirty_two_guests_that_use_a_proof_one_wins(store) {
        let proof = validated(&store, Purpose::Register, "a").await;
        let store = Arc::new(store);
        let mut racing = Vec::new();
        for at in 0..32 {
            let (guest, session) = guest(&store, &at.to_string()).await;
            let (store, proved) = (Arc::clone(&store), proved(&proof, &format!("{at}@example.org")));
            racing.push(tokio::spawn(async move {
                let with = Registration { threepids: vec![proved], ..Registration::default() };
                let upgrade = Upgrade { guest, epoch: 0, session };
                store.upgrade_guest(upgrade, &PasswordHash("chosen".into()), &with, &event("upgrade")).await.unwrap()
            }));
        }
        let mut upgraded = 0;
        for one in racing {
            match one.await.unwrap() {
                Created::Done => upgraded += 1,
                other => assert_eq!(other, Created::ProofSpent),
            }
        }
        assert_eq!(upgraded, 1);
    }

    a_proof_resets_a_password_once(store) {
        let alice = add_user(&store, "alice").await;
        let held = sign_in(&store, alice, "PHONE").await;
        let proof = validated(&store, Purpose::AccountPassword, "a").await;
        let verified = load_user(&store, held.user).await.verified();
        let hash = PasswordHash("new".into());
        let by = ResetProof { validation: proof.id, medium: Medium::Email, address: ADDRESS, uia: None };
        let reset = async |verified| {
            store.reset_password(held.user, verified, &hash, true, &by, &event("reset")).await
        };
        assert_eq!(reset(verified).await, Ok(false), "the address is nobody's");
        let own = validated(&store, Purpose::AccountThreepid, "b").await;
        let added = store.add_threepid(alice, None, &proved(&own, ADDRESS), &event("threepid_added")).await;
        assert_eq!(added, Ok(Added::Done));
        assert_eq!(reset(verified).await, Ok(true));
        assert_eq!(load_user(&store, held.user).await.password_hash, Some(hash.clone()));
        assert!(store.find_device(held.user, &held.device).await.unwrap().is_none());
        assert_eq!(reset(load_user(&store, held.user).await.verified()).await, Ok(false), "the proof is used up");
    }

    an_expired_proof_gives_nothing_and_is_swept(store) {
        let alice = add_user(&store, "alice").await;
        let proof = validated(&store, Purpose::AccountThreepid, "a").await;
        let mut late = proved(&proof, ADDRESS);
        late.threepid.added_at = NOW + HOUR;
        let added = store.add_threepid(alice, None, &late, &event("threepid_added")).await;
        assert_eq!(added, Ok(Added::ProofSpent));
        assert_eq!(store.delete_expired_validations(NOW + HOUR, 10).await, Ok(0));
        assert_eq!(store.delete_expired_validations(NOW + HOUR + 1, 10).await, Ok(1));
    }

    who_is_deactivated_loses_every_address(store) {
        let alice = add_user(&store, "alice").await;
        let proof = validated(&store, Purpose::AccountThreepid, "a").await;
        let added = store.add_threepid(alice, None, &proved(&proof, ADDRESS), &event("threepid_added")).await;
        assert_eq!(added, Ok(Added::Done));
        let epoch = load_user(&store, alice).await.epoch;
        assert_eq!(store.deactivate(alice, epoch, false, None, &event("deactivated")).await, Ok(true));
        assert_eq!(store.owner_of(Medium::Email, ADDRESS).await, Ok(None));
        let proof = validated(&store, Purpose::AccountThreepid, "b").await;
        let added = store.add_threepid(alice, None, &proved(&proof, ADDRESS), &event("threepid_added")).await;
        assert_eq!(added, Ok(Added::Overtaken), "nothing is given to who is gone");
    }
}
