const name: string = "node";
console.log(`hello, ${name}`);
