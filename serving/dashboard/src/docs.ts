// The API's description, to read and to try: works without any other server.

import SwaggerUI from "swagger-ui-dist/swagger-ui-es-bundle.js";
import "swagger-ui-dist/swagger-ui.css";

SwaggerUI({ dom_id: "#docs", url: "/v1/openapi.json", deepLinking: true, validatorUrl: null });
