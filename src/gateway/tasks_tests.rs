//! Tests of what is remembered of tasks.

use super::*;
use crate::backend::Scope;

#[test]
fn early_statuses_are_bounded_by_number_and_by_bytes() {
    let tasks = Tasks::default();
    let (server, scope) = ("s".into(), Scope::All);
    let instance = InstanceKey { server, scope, speak: crate::backend::Speak::Best, revision: 0 };
    let keep = |id: usize, bytes: usize| {
        let (instance, id) = (instance.clone(), id.to_string());
        let bytes = Some(Bytes::from(vec![b'x'; bytes]));
        tasks.keep(Early { instance, id, bytes, terminal: false });
    };
    for id in 0..2 * EARLY {
        keep(id, 1);
    }
    assert_eq!(tasks.early().len(), EARLY);
    for id in 0..3 {
        keep(1000 + id, EARLY_BYTES / 3);
    }
    assert_eq!(tasks.early().len(), 2, "two and their ids fit");
    assert_eq!(tasks.take_early(&instance, "1002").len(), 1);
    keep(2000, EARLY_BYTES);
    assert!(tasks.early().is_empty(), "one alone may be too long as well");
}
