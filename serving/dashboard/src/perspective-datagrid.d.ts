// Imported for what it registers.
export {};
