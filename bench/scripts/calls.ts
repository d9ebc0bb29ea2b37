// A hundred calls, one after the other.
import { connect } from "@aurae/sdk";

const node = await connect();
try {
  for (let call = 0; call < 100; call++) {
    await node.discovery.discover({});
  }
} finally {
  node.close();
}
