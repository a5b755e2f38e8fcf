//! The order of rows.

use paddock_datasets::order::Order;

#[test]
fn each_epoch_holds_every_row_once_in_its_own_order() {
    let mut order = Order::new(100, 7, true).unwrap();
    let epochs: Vec<Vec<usize>> =
        (0..3).map(|e| (0..100).map(|i| order.row(e * 100 + i)).collect()).collect();
    for epoch in &epochs {
        let mut sorted = epoch.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..100).collect::<Vec<_>>());
    }
    assert_ne!(epochs[0], epochs[1]);
    assert_ne!(epochs[1], epochs[2]);
}

#[test]
fn a_position_alone_resumes_the_order() {
    let mut whole = Order::new(13, 3, true).unwrap();
    let all: Vec<usize> = (0..60).map(|p| whole.row(p)).collect();
    for start in [0u64, 5, 13, 27, 59] {
        let mut resumed = Order::new(13, 3, true).unwrap();
        let rest: Vec<usize> = (start..60).map(|p| resumed.row(p)).collect();
        assert_eq!(rest, all[start as usize..]);
    }
}

#[test]
fn an_epoch_may_end_with_a_partial_batch() {
    let mut order = Order::new(10, 1, false).unwrap();
    assert_eq!(order.rows(8, 4, true), [8, 9]);
    assert_eq!(order.rows(8, 4, false), [8, 9, 0, 1]);
    assert!(Order::new(0, 1, true).is_err());
}
