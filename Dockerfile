# One Archipelago daemon, or its command line. The sources run as they are, under the image's own Node.
FROM node:24-bookworm-slim
WORKDIR /opt/archipelago
COPY package.json package-lock.json .npmrc ./
COPY scripts/build-rados.sh scripts/
RUN npm ci --omit=dev && npm cache clean --force
COPY bin bin
COPY src src
ENTRYPOINT ["node", "/opt/archipelago/bin/archipelago.js"]
