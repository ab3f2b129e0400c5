use proptest::prelude::*;

use super::*;

const NOW: UnixMs = 1_700_000_000_000;
const ALICE: UserKey = UserKey(1);
const BOB: UserKey = UserKey(2);
const PASSWORD: Proof = Proof::Password { user: ALICE, epoch: 3, changed_at: None };
const TOKEN: Proof = Proof::RegistrationToken { token_hash: [7; 32] };

fn request() -> Request {
    Request { user: Some(ALICE), operation: Operation::DeleteDevices, hash: [1; 32] }
}

/// Password, then one of two.
fn flows() -> Flows {
    Flows::new(vec![vec![Stage::Password, Stage::Dummy], vec![Stage::Password, Stage::RegistrationToken]])
        .unwrap()
}

fn session(completed: &[Proof]) -> UiaSession {
    let revision = i64::try_from(completed.len()).unwrap();
    UiaSession { completed: completed.to_vec(), revision, ..UiaSession::open(&request(), NOW) }
}

/// A row of the first table: for a poll, `m.login.password`, `.dummy` and an unknown stage.
fn row(session: &UiaSession, request: &Request, now: UnixMs) -> [&'static str; 4] {
    [None, Some("m.login.password"), Some("m.login.dummy"), Some("m.login.sso")].map(|kind| {
        match session.attempt(&flows(), request, kind, now) {
            Attempt::Check(check) => {
                assert_eq!(Some(check.stage().as_str()), kind);
                "check"
            }
            Attempt::Continue => "continue",
            Attempt::Complete(advance) => {
                assert_eq!((&advance.session, advance.guard), (session, session.revision));
                "complete"
            }
            Attempt::Refused(Refusal::Gone) => "gone",
            Attempt::Refused(Refusal::NotYours) => "not yours",
            Attempt::Refused(Refusal::OutOfOrder) => "out of order",
        }
    })
}

#[test]
fn the_table_of_attempts() {
    let (open, half, all) = (session(&[]), session(&[PASSWORD]), session(&[PASSWORD, Proof::Dummy]));
    let end = NOW + AUTH_SESSION_LIFETIME_MS;
    for session in [&open, &half, &all] {
        assert_eq!(row(session, &request(), end), ["gone"; 4]);
        for other in [
            Request { user: Some(BOB), ..request() },
            Request { user: None, ..request() },
            Request { operation: Operation::DeleteDevice, ..request() },
        ] {
            assert_eq!(row(session, &other, NOW), ["not yours"; 4]);
        }
    }
    assert_eq!(row(&session(&[TOKEN]), &request(), NOW), ["gone"; 4], "stages of no flow");

    let other = Request { hash: [2; 32], ..request() };
    assert_eq!(row(&half, &other, NOW), ["not yours"; 4]);
    assert_eq!(row(&all, &other, NOW), ["not yours"; 4]);
    for request in [request(), other] {
        assert_eq!(row(&open, &request, end - 1), ["continue", "check", "out of order", "out of order"]);
    }
    assert_eq!(row(&half, &request(), end - 1), ["continue", "continue", "check", "out of order"]);
    assert_eq!(row(&all, &request(), end - 1), ["complete", "complete", "complete", "out of order"]);
}

fn check(session: &UiaSession, request: &Request, stage: Stage) -> Check {
    match session.attempt(&flows(), request, Some(stage.as_str()), NOW) {
        Attempt::Check(check) => check,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_table_of_verdicts() {
    let (open, half) = (session(&[]), session(&[PASSWORD]));
    let first = || check(&open, &request(), Stage::Password);
    let last = || check(&half, &request(), Stage::Dummy);
    assert_eq!(
        first().judged(&flows(), Ok(PASSWORD)),
        Judgement::Continue(Advance { session: half.clone(), guard: 0 })
    );
    assert_eq!(
        last().judged(&flows(), Ok(Proof::Dummy)),
        Judgement::Complete(Advance { session: session(&[PASSWORD, Proof::Dummy]), guard: 1 })
    );
    for check in [first(), last()] {
        let failed = check.judged(&flows(), Err(Failure::Password));
        assert_eq!(failed, Judgement::Failed(Failure::Password));
    }
    for wrong in [TOKEN, Proof::Dummy, Proof::Password { user: BOB, epoch: 3, changed_at: None }] {
        assert_eq!(first().judged(&flows(), Ok(wrong)), Judgement::Failed(Failure::Password));
    }
}

#[test]
fn a_session_binds_to_the_request_of_the_first_proof() {
    let empty = UiaSession::open(&Request { hash: [0; 32], ..request() }, NOW);
    let check = check(&empty, &request(), Stage::Password);
    let Judgement::Continue(advance) = check.judged(&flows(), Ok(PASSWORD)) else { panic!() };
    assert_eq!(advance.session.request_hash, request().hash);
    let back = advance.session.attempt(&flows(), &Request { hash: [0; 32], ..request() }, None, NOW);
    assert_eq!(back, Attempt::Refused(Refusal::NotYours));
}

#[test]
fn a_registration_proved_on_a_page_may_still_be_described() {
    let request = |hash| Request { user: None, operation: Operation::Register, hash };
    let flows = Flows::new(vec![vec![Stage::Recaptcha, Stage::Terms, Stage::RegistrationToken]]).unwrap();
    let prove = |session: &UiaSession, request: &Request, proof: Proof| {
        let attempt = session.attempt(&flows, request, Some(proof.stage().as_str()), NOW);
        let Attempt::Check(check) = attempt else { panic!("{attempt:?}") };
        match check.judged(&flows, Ok(proof)) {
            Judgement::Continue(advance) | Judgement::Complete(advance) => advance.session,
            failed @ Judgement::Failed(_) => panic!("{failed:?}"),
        }
    };
    let opened = UiaSession::open(&request([1; 32]), NOW);
    let first = prove(&opened, &opened.request_on_a_page(), Proof::Recaptcha);
    assert_eq!(first.attempt(&flows, &request([2; 32]), None, NOW), Attempt::Continue);
    // The first request that proves something itself is the one from then on, on a page too.
    let second = prove(&first, &request([2; 32]), Proof::Terms);
    assert_eq!(second.attempt(&flows, &request([3; 32]), None, NOW), Attempt::Refused(Refusal::NotYours));
    let third = prove(&second, &second.request_on_a_page(), TOKEN);
    assert!(matches!(third.attempt(&flows, &request([2; 32]), None, NOW), Attempt::Complete(_)));
    assert_eq!(third.attempt(&flows, &request([3; 32]), None, NOW), Attempt::Refused(Refusal::NotYours));
    // All of them on pages: whatever request comes.
    let third =
        prove(&prove(&first, &first.request_on_a_page(), Proof::Terms), &first.request_on_a_page(), TOKEN);
    assert!(matches!(third.attempt(&flows, &request([3; 32]), None, NOW), Attempt::Complete(_)));
    assert_eq!(third.next_stages(&flows), []);
}

#[test]
fn anything_else_proved_on_a_page_is_what_opened_the_session() {
    let opened = session(&[]);
    assert_eq!(opened.request_on_a_page(), request());
    assert_eq!(opened.next_stages(&flows()), [Stage::Password, Stage::Password]);
    let check = check(&opened, &opened.request_on_a_page(), Stage::Password);
    let Judgement::Continue(advance) = check.judged(&flows(), Ok(PASSWORD)) else { panic!() };
    let other = Request { hash: [2; 32], ..request() };
    assert_eq!(advance.session.attempt(&flows(), &other, None, NOW), Attempt::Refused(Refusal::NotYours));
}

#[test]
fn auth_without_a_session_is_judged_at_once() {
    let request = Request { user: None, operation: Operation::Register, hash: [1; 32] };
    let flows = Flows::one(Stage::RegistrationToken);
    let fresh = UiaSession::open(&request, NOW);
    let Attempt::Check(check) = fresh.attempt(&flows, &request, Some("m.login.registration_token"), NOW)
    else {
        panic!()
    };
    let Judgement::Complete(advance) = check.judged(&flows, Ok(TOKEN)) else { panic!() };
    assert_eq!(advance.session.registration_token(), Some([7; 32]));
    assert_eq!(advance.session.password_user(), None);
}

#[test]
fn the_request_hash_ignores_order_and_passwords_and_nothing_else() {
    let hash =
        |fields: &[(&'static str, &'static str)]| request_hash(Operation::Register, fields.iter().copied());
    let plain = hash(&[("username", "\"a\""), ("device_id", "\"b\"")]);
    assert_eq!(
        plain,
        hash(&[
            ("device_id", "\"b\""),
            ("password", "\"x\""),
            ("auth", "{}"),
            ("new_password", ""),
            ("username", "\"a\"")
        ])
    );
    assert_ne!(plain, hash(&[("username", "\"a\"")]));
    assert_ne!(plain, hash(&[("username", "\"b\""), ("device_id", "\"a\"")]));
    assert_ne!(hash(&[("a", "bc")]), hash(&[("ab", "c")]));
    assert_ne!(hash(&[("a", "b"), ("c", "d")]), hash(&[("a", "bcd")]));
    assert_ne!(request_hash(Operation::DeleteDevice, []), request_hash(Operation::DeleteDevices, []));
}

#[test]
fn operations_and_proofs_are_stored_as_text() {
    for operation in Operation::ALL {
        assert_eq!(Operation::parse(operation.as_str()), Some(operation));
    }
    let text = Proof::to_text(&[PASSWORD, Proof::Dummy]);
    assert_eq!(text, "m.login.password 1 3 never\nm.login.dummy\n");
    for wrong in [
        "m.login.dummy 1",
        "m.login.password",
        "m.login.password 1",
        "m.login.password 1 3 x",
        "m.login.password 1 3 never 4",
        "m.login.registration_token 07",
        "\n",
        "x",
    ] {
        assert_eq!(Proof::from_text(wrong), None, "{wrong}");
    }
}

fn any_proof() -> impl Strategy<Value = Proof> {
    prop_oneof![
        any::<(i64, i64, Option<i64>)>().prop_map(|(user, epoch, changed_at)| Proof::Password {
            user: UserKey(user),
            epoch,
            changed_at
        }),
        Just(Proof::Dummy),
        any::<[u8; 32]>().prop_map(|token_hash| Proof::RegistrationToken { token_hash }),
        any::<[u8; 16]>().prop_map(|id| Proof::EmailIdentity { validation: ValidationId(id) }),
        any::<[u8; 16]>().prop_map(|id| Proof::Msisdn { validation: ValidationId(id) }),
        Just(Proof::Terms),
        Just(Proof::Recaptcha),
    ]
}

/// One move of a history with several clients on one stored session.
#[derive(Debug, Clone)]
enum Move {
    /// A request arrives, reads the session, and its check ends so; its commit comes later.
    Ask {
        kind: Option<Stage>,
        request: Request,
        proof: Result<Proof, Failure>,
    },
    /// One of the waiting commits is made.
    Commit(usize),
    Wait(UnixMs),
}

fn any_move() -> impl Strategy<Value = Move> {
    let stage = prop_oneof![Just(Stage::Password), Just(Stage::Dummy), Just(Stage::RegistrationToken)];
    // Mostly the right request, or no history would get anywhere.
    let user = prop_oneof![9 => Just(Some(ALICE)), 1 => Just(Some(BOB)), 1 => Just(None)];
    let operation = prop_oneof![9 => Just(Operation::DeleteDevices), 1 => Just(Operation::Register)];
    let hash = prop_oneof![9 => Just([1; 32]), 1 => Just([2; 32])];
    let request =
        (user, operation, hash).prop_map(|(user, operation, hash)| Request { user, operation, hash });
    let honest = |stage: Stage| match stage {
        Stage::Password => PASSWORD,
        Stage::Dummy => Proof::Dummy,
        Stage::EmailIdentity => Proof::EmailIdentity { validation: ValidationId([5; 16]) },
        Stage::Msisdn => Proof::Msisdn { validation: ValidationId([6; 16]) },
        Stage::Terms => Proof::Terms,
        Stage::Recaptcha => Proof::Recaptcha,
        Stage::RegistrationToken => TOKEN,
    };
    let ask = (proptest::option::weighted(0.9, stage), request, 0..10u8, any_proof()).prop_map(
        move |(kind, request, luck, other)| {
            let proof = match (luck, kind) {
                (0, _) => Err(Failure::Password),
                (1, _) | (_, None) => Ok(other),
                (_, Some(stage)) => Ok(honest(stage)),
            };
            Move::Ask { kind, request, proof }
        },
    );
    prop_oneof![6 => ask, 5 => any::<usize>().prop_map(Move::Commit), 1 => (0..400_000i64).prop_map(Move::Wait)]
}

/// What a waiting commit would do, and the requests that led there.
struct Waiting {
    advance: Advance,
    complete: bool,
    trail: Vec<Request>,
}

/// Plays a history against a store that compares and sets. Returns the completed sessions, each
/// with the requests of all its steps. `guarded: false` is the negative control: a store that
/// forgets to compare.
fn play(moves: Vec<Move>, guarded: bool) -> Vec<(UiaSession, Vec<Request>)> {
    let (flows, mut now) = (flows(), NOW);
    let mut stored = Some((UiaSession::open(&request(), now), Vec::new()));
    let (mut waiting, mut completions): (Vec<Waiting>, Vec<_>) = (Vec::new(), Vec::new());
    for step in moves {
        match step {
            Move::Wait(ms) => now += ms,
            Move::Ask { kind, request, proof } => {
                let Some((session, trail)) = &stored else {
                    continue;
                };
                let (advance, complete) =
                    match session.attempt(&flows, &request, kind.map(Stage::as_str), now) {
                        Attempt::Check(check) => match check.judged(&flows, proof) {
                            Judgement::Continue(advance) => (advance, false),
                            Judgement::Complete(advance) => (advance, true),
                            Judgement::Failed(_) => continue,
                        },
                        Attempt::Complete(advance) => (advance, true),
                        Attempt::Continue | Attempt::Refused(_) => continue,
                    };
                assert!(now < session.expires_at);
                waiting.push(Waiting { advance, complete, trail: [&trail[..], &[request]].concat() });
            }
            Move::Commit(which) => {
                if waiting.is_empty() {
                    continue;
                }
                let Waiting { advance, complete, trail } = waiting.swap_remove(which % waiting.len());
                let unchanged = stored.as_ref().is_some_and(|(session, _)| session.revision == advance.guard);
                match (unchanged || !guarded, complete) {
                    (false, _) => {}
                    (true, false) => stored = Some((advance.session, trail)),
                    (true, true) => {
                        completions.push((advance.session, trail));
                        stored = None;
                    }
                }
            }
        }
    }
    completions
}

#[test]
fn without_the_guard_a_session_completes_twice() {
    let ask = |kind: Stage, proof| Move::Ask { kind: Some(kind), request: request(), proof: Ok(proof) };
    let race = || {
        vec![
            ask(Stage::Password, PASSWORD),
            Move::Commit(0),
            ask(Stage::Dummy, Proof::Dummy),
            ask(Stage::RegistrationToken, TOKEN),
            Move::Commit(0),
            Move::Commit(0),
        ]
    };
    assert_eq!(play(race(), true).len(), 1);
    assert_eq!(play(race(), false).len(), 2);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_session_completes_once_in_order_and_for_one_request(moves in prop::collection::vec(any_move(), 1..60)) {
        let completions = play(moves, true);
        prop_assert!(completions.len() <= 1);
        for (session, trail) in completions {
            let stages: Vec<Stage> = session.completed_stages().collect();
            prop_assert!(flows().iter().any(|flow| flow.stages() == stages));
            prop_assert_eq!(session.password_user(), Some(ALICE));
            for step in trail {
                prop_assert_eq!((step.user, step.operation), (Some(ALICE), Operation::DeleteDevices));
                prop_assert_eq!(step.hash, session.request_hash);
            }
            prop_assert_eq!(session.revision, 2);
        }
    }

    #[test]
    fn proofs_read_as_they_were_written(proofs in prop::collection::vec(any_proof(), 0..5)) {
        prop_assert_eq!(Proof::from_text(&Proof::to_text(&proofs)), Some(proofs));
    }

    #[test]
    fn reading_proofs_never_panics(text in "\\PC{0,80}") {
        let _ = Proof::from_text(&text);
    }
}
