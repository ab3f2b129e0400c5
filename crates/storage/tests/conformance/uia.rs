//! Authentication sessions: opened, advanced and closed by revision.

use ligand_protocol::ids::UserKey;
use ligand_storage::Store;
use ligand_storage::uia::UiaRow;

use crate::on_both;
use crate::world::*;

pub fn row(user: Option<UserKey>) -> UiaRow {
    UiaRow {
        id_hash: unique(),
        user,
        operation: "delete_devices".into(),
        request_hash: unique(),
        completed: "[]".into(),
        created_at: NOW,
        expires_at: NOW + HOUR,
        revision: 0,
    }
}

/// Opens a session of revision 0; its key.
pub async fn open(store: &Store, user: Option<UserKey>) -> [u8; 32] {
    let row = row(user);
    store.open_uia(&row).await.unwrap();
    row.id_hash
}

on_both! {
    a_session_goes_from_revision_to_revision(store) {
        for user in [None, Some(UserKey(5))] {
            let opened = row(user);
            store.open_uia(&opened).await.unwrap();
            assert_eq!(store.find_uia(opened.id_hash).await, Ok(Some(opened.clone())));
            let request = unique();
            let advance = async |revision, completed: &str| {
                store.advance_uia(opened.id_hash, revision, completed, request).await.unwrap()
            };
            assert!(advance(0, "one").await);
            assert!(!advance(0, "stale").await);
            assert!(!advance(2, "ahead").await);
            let now = UiaRow { completed: "one".into(), request_hash: request, revision: 1, ..opened.clone() };
            assert_eq!(store.find_uia(opened.id_hash).await, Ok(Some(now)));
            assert!(advance(1, "two").await);
            assert_eq!(store.close_uia(opened.id_hash, 1).await, Ok(false));
            assert_eq!(store.close_uia(opened.id_hash, 2).await, Ok(true));
            assert_eq!(store.close_uia(opened.id_hash, 2).await, Ok(false));
            assert!(!advance(2, "late").await);
            assert_eq!(store.find_uia(opened.id_hash).await, Ok(None));
        }
    }

    sessions_do_not_touch_each_other(store) {
        let (first, second) = (open(&store, None).await, open(&store, None).await);
        assert_eq!(store.advance_uia(first, 0, "x", [0; 32]).await, Ok(true));
        assert_eq!(store.find_uia(second).await.unwrap().unwrap().revision, 0);
        assert_eq!(store.close_uia(first, 1).await, Ok(true));
        assert!(store.find_uia(second).await.unwrap().is_some());
    }
}
