// Conversations that stay in this browser: IndexedDB, since pictures outgrow localStorage.

const STORE = "conversations";

function open() {
  return new Promise((resolve, reject) => {
    const asked = indexedDB.open("deployer", 1);
    asked.onupgradeneeded = () => asked.result.createObjectStore(STORE, { keyPath: "id" });
    asked.onsuccess = () => resolve(asked.result);
    asked.onerror = () => reject(asked.error);
  });
}

async function run(mode, work) {
  const database = await open();
  try {
    return await new Promise((resolve, reject) => {
      const asked = work(database.transaction(STORE, mode).objectStore(STORE));
      asked.onsuccess = () => resolve(asked.result);
      asked.onerror = () => reject(asked.error);
    });
  } finally {
    database.close();
  }
}

export const keep = (conversation) => run("readwrite", (store) => store.put(conversation));
export const forget = (id) => run("readwrite", (store) => store.delete(id));
export async function all() {
  const found = await run("readonly", (store) => store.getAll());
  return found.sort((one, other) => other.changed - one.changed);
}
