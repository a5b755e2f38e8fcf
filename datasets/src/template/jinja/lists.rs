//! `list.append` from inside an expression, a habit of some promptsource templates. The interpreter's
//! own lists never change, so a list that is appended to becomes one that can grow, within bounds.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, PoisonError};

use minijinja::value::{Enumerator, Object, ObjectRepr, Value, ValueKind};
use minijinja::{Error as JinjaError, ErrorKind, State};

/// Most items of such a list.
const MOST_ITEMS: usize = 10_000;
/// The function that makes one.
pub const MAKE: &str = "__growing_list";

/// The same source where every empty list that is appended to can grow.
pub fn growing(source: &str) -> Cow<'_, str> {
    let word = |c: char| c.is_alphanumeric() || c == '_';
    let mut out = Cow::Borrowed(source);
    for (place, _) in source.match_indices(".append(") {
        let before = &source[..place];
        let name = before.rsplit(|c| !word(c)).next().unwrap_or_default();
        if name.is_empty() {
            continue;
        }
        for empty in [format!("set {name} = []"), format!("set {name}=[]")] {
            if out.contains(&empty) {
                out = Cow::Owned(out.replace(&empty, &format!("set {name} = {MAKE}()")));
            }
        }
    }
    out
}

/// A list that grows by single texts and numbers: a list in a list could hold itself.
#[derive(Debug, Default)]
pub struct Growing(Mutex<Vec<Value>>);

impl Growing {
    fn items(&self) -> Vec<Value> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Object for Growing {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Seq
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.items().get(key.as_usize()?).cloned()
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.items())
    }

    fn call_method(
        self: &Arc<Self>,
        _: &mut State<'_, '_>,
        method: &str,
        args: &[Value],
    ) -> Result<Value, JinjaError> {
        let fail =
            |message: &str| Err(JinjaError::new(ErrorKind::InvalidOperation, message.to_string()));
        let ("append", [item]) = (method, args) else {
            return Err(JinjaError::from(ErrorKind::UnknownMethod));
        };
        if !matches!(item.kind(), ValueKind::String | ValueKind::Number | ValueKind::Bool) {
            return fail("append takes a text or a number");
        }
        let mut items = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if items.len() >= MOST_ITEMS {
            return fail("append: the list is too long");
        }
        items.push(item.clone());
        Ok(Value::from(()))
    }
}
