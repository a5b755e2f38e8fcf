//! Training and validation sides.

use paddock_datasets::split::{SplitOptions, split};

fn keys(n: usize) -> Vec<u128> {
    (0..n as u128).collect()
}

#[test]
fn a_tenth_is_held_out_but_at_least_32_and_at_most_half() {
    let sizes = |n: usize| split(&keys(n), &SplitOptions::default()).validation.len();
    assert_eq!(sizes(1000), 100);
    assert_eq!(sizes(100), 32);
    assert_eq!(sizes(40), 20);
    assert_eq!(sizes(3), 1);
    assert_eq!(sizes(1), 0);
    assert_eq!(sizes(0), 0);
}

#[test]
fn the_seed_decides_and_nothing_is_lost() {
    let a = split(&keys(500), &SplitOptions::default());
    let b = split(&keys(500), &SplitOptions { seed: 2, ..SplitOptions::default() });
    assert_eq!(a, split(&keys(500), &SplitOptions::default()));
    assert_ne!(a.validation, b.validation);
    let mut all = [a.train, a.validation].concat();
    all.sort_unstable();
    assert_eq!(all, (0..500).collect::<Vec<_>>());
}

#[test]
fn equal_rows_stay_on_one_side() {
    let keys: Vec<u128> = (0..600).map(|i| i / 3).collect();
    let found = split(&keys, &SplitOptions::default());
    assert_eq!(found.duplicates, 400);
    for row in &found.validation {
        assert!(found.train.iter().all(|other| keys[*other] != keys[*row]));
    }
    assert!(split(&[5; 20], &SplitOptions::default()).validation.is_empty());
}

#[test]
fn no_share_means_no_validation() {
    let none = SplitOptions { share: 0.0, ..SplitOptions::default() };
    assert!(split(&keys(100), &none).validation.is_empty());
}
