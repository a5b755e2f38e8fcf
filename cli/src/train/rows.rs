//! The examples of a run, wherever they lie: in memory, or in the token cache.

use std::sync::Arc;

use paddock_datasets::encode::Example;
use paddock_datasets::tokens::{Facts, Store};

/// Some examples of some stores, in an order of their own.
#[derive(Default)]
pub struct Rows {
    stores: Vec<Arc<Store>>,
    list: Vec<(u32, u32)>,
}

impl Rows {
    /// Examples of one store by number.
    pub fn of(store: Arc<Store>, list: impl IntoIterator<Item = usize>) -> Rows {
        let mut rows = Rows::default();
        rows.add(store, list);
        rows
    }

    /// Adds examples of a store.
    pub fn add(&mut self, store: Arc<Store>, list: impl IntoIterator<Item = usize>) {
        let number = self.add_store(store);
        list.into_iter().for_each(|i| self.push(number, i));
    }

    /// Adds a store; its number for [`Rows::push`].
    pub fn add_store(&mut self, store: Arc<Store>) -> u32 {
        self.stores.push(store);
        self.stores.len() as u32 - 1
    }

    /// Adds one example of a store.
    pub fn push(&mut self, store: u32, i: usize) {
        self.list.push((store, i as u32));
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// An example.
    pub fn get(&self, i: usize) -> anyhow::Result<Example> {
        let (store, at) = self.list[i];
        Ok(self.stores[store as usize].get(at as usize)?)
    }

    /// All of them.
    pub fn all(&self) -> anyhow::Result<Vec<Example>> {
        (0..self.len()).map(|i| self.get(i)).collect()
    }

    /// What is known of each without reading it.
    pub fn facts(&self) -> impl Iterator<Item = Facts> {
        self.list.iter().map(|(store, at)| self.stores[*store as usize].facts(*at as usize))
    }
}
